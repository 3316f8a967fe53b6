"""How image data moves: arrays on disk -> whole uint8 batches -> views on the device."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augment import augment, draw
from datamodules.geometry import central
from datamodules.layout import check_images, check_range, read_classes, read_images, read_labels
from datamodules.loader import BatchLoader, RowsDataset
from datamodules.recipe import Recipe, check
from datamodules.splits import Stored, divide


class ImageDataModule(LightningDataModule):
    """Images as plain arrays under `data_dir/name`; the README, under Data, has the layout.

    Args:
        name: subfolder of `data_dir`.
        data_dir: where the data sets live.
        views: one recipe for each view of an image that a training batch holds; one view without augmentation if None.
        batch_size: images of a batch, on each process.
        size: side of the square views in pixels; the crop's or else the stored height if None.
        center_crop: side in pixels of the central part that all but training sees; the whole image if None.
        mean, std: of each channel, subtracted and divided after scaling to [0, 1]; the data set's own if None.
        train_on: `labeled` trains on the training split; `unlabeled` on images without labels of their own file, while
            validation, kNN and probes keep to the training split.
        unlabeled: how many of those, always the same; all if None.
        val_size: share of each class that is carved from the training split where there is no val split.
        split_seed: of that carving. It has nothing to do with the run's seed.
        seed: of order and augmentation; the run's.
        color: `exact` as torchvision computes colour jitter, `fast` as one affine map of the colours.
        compile: let torch.compile fuse the augmentation (a compiler is needed; the first batches are slow).
        num_workers: processes that read batches ahead; 0 is fastest for arrays in memory.
    """

    num_classes: int | None = None
    class_names: list[str] | None = None
    default_mean: ClassVar[tuple[float, ...]] = (0.5,)
    default_std: ClassVar[tuple[float, ...]] = (0.5,)
    how_to_get: ClassVar[str] = "put the files of the array layout there (README, Data)"

    def __init__(
        self,
        name: str,
        data_dir: str = "data",
        views: list[Recipe] | None = None,
        batch_size: int = 256,
        size: int | None = None,
        center_crop: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        train_on: Literal["labeled", "unlabeled"] = "labeled",
        unlabeled: int | None = None,
        val_size: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        color: Literal["exact", "fast"] = "exact",
        compile: bool = False,
        num_workers: int = 0,
    ):
        super().__init__()
        self.folder = Path(data_dir) / name
        self.views = views or [Recipe()]
        self.batch_size, self.size, self.num_workers = batch_size, size, num_workers
        self.center_crop = center_crop
        self.mean, self.std = mean or list(self.default_mean), std or list(self.default_std)
        self.sources = ["train", "unlabeled"] if train_on == "unlabeled" else ["train"]
        self.unlabeled = unlabeled
        self.val_size, self.split_seed, self.seed = val_size, split_seed, seed
        self.color = color
        self.augment = torch.compile(augment) if compile else augment
        self.datasets: dict[str, RowsDataset] = {}

    @property
    def num_outputs(self) -> int | None:
        """Width of a head for the labels."""
        return self.num_classes

    @property
    def augments(self) -> bool:
        """Whether training may see an image otherwise than validation does."""
        return self.views != [Recipe()] or self.center_crop is not None

    def path(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.folder / f"{split}_{kind}.npy"

    def setup(self, stage: str) -> None:
        if self.datasets:
            return
        arrays = self.read()
        for source in self.sources:
            if source not in arrays:
                raise MisconfigurationException(
                    f"no data set at {self.path(source, 'images').absolute()}: {self.how_to_get}, "
                    "or point --data.init_args.data_dir to where it is"
                )
        self.name_classes(arrays["train"][1])
        self.check(arrays)
        self.datasets = divide(arrays, self.val_size, self.split_seed, self.unlabeled)

    def read(self) -> dict[str, Stored]:
        """Images and labels of each split that exists."""
        arrays = {}
        for split in (*self.sources, "val", "test"):
            images_path, labels_path = self.path(split, "images"), self.path(split, "labels")
            if images_path.is_file():
                images = read_images(images_path)
                has_labels = labels_path.is_file() and split != "unlabeled"
                arrays[split] = images, read_labels(labels_path, len(images)) if has_labels else None
        return arrays

    def name_classes(self, labels: np.ndarray | None) -> None:
        """The data set's own classes, those of classes.txt or, without names, as many as the labels say."""
        self.class_names = self.class_names or read_classes(self.folder / "classes.txt")
        if self.num_classes is None and self.class_names:
            self.num_classes = len(self.class_names)
        if self.num_classes is None and labels is not None:
            self.num_classes = int(labels.max()) + 1
        if self.num_classes and not self.class_names:
            self.class_names = [str(k) for k in range(self.num_classes)]

    def check(self, arrays: dict[str, Stored]) -> None:
        """Raises where splits, normalisation, crops and recipes do not fit each other."""
        channels = arrays["train"][0].shape[-1]
        for split, (images, labels) in arrays.items():
            check_images(self.path(split, "images"), images, channels, self.center_crop)
            if labels is not None:
                check_range(self.path(split, "labels"), labels, self.num_classes or 0)
        self.mean, self.std = (v * channels if len(v) == 1 else v for v in (self.mean, self.std))
        if not len(self.mean) == len(self.std) == channels:
            raise MisconfigurationException(
                f"mean {self.mean} and std {self.std}: the images of {self.folder} have {channels} channels, "
                "give one number for each (or a single one for all)"
            )
        for source in self.sources:
            for recipe in self.views:
                check(recipe, *arrays[source][0].shape[1:])

    def loader(self, split: str, training: bool = False) -> BatchLoader:
        trainer = self.trainer
        return BatchLoader(
            self.datasets[split],
            self.batch_size,
            seed=self.seed if training else None,
            shard=self.shard(),
            place=(lambda: (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready))
            if training and trainer
            else (lambda: (0, 0)),
            num_workers=self.num_workers if training else 0,
            pin_memory=torch.cuda.is_available(),
        )

    def shard(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> BatchLoader:
        loader = self.loader("train", training=True)
        if not len(loader):
            raise MisconfigurationException(
                f"batch_size {self.batch_size} on {self.shard()[1]} processes is more than the "
                f"{len(self.datasets['train'])} training images: give a smaller one"
            )
        return loader

    def bank_dataloader(self) -> BatchLoader:
        """Labelled training examples without augmentation: what kNN, probes and retrieval refer to."""
        return self.loader("bank" if "bank" in self.datasets else "train")

    def val_dataloader(self) -> BatchLoader:
        return self.loader("val")

    def test_dataloader(self) -> BatchLoader | list:
        return self.loader("test") if "test" in self.datasets else []

    def transfer_batch_to_device(self, batch: tuple, device: torch.device, dataloader_idx: int) -> tuple:
        return self.prepare(batch, device, augment=self.trainer.training)

    def prepare(self, batch: tuple, device: torch.device, augment: bool) -> tuple:
        """Stored rows and their key -> the batch that a step reads, on `device`.

        Args:
            batch: images uint8 (B, H, W, C), labels, index, key, as a loader yields them.
            augment: draw `views` with the key; otherwise one view, of the centre if so asked, without augmentation.

        Returns:
            views (list of float32 (B, C, S, S)), labels (B,), index (B,), key.
        """
        images, labels, index, key = batch
        images = images.to(device, non_blocking=True)
        if self.center_crop and not augment:
            images = central(images, self.center_crop)
        recipes = self.views if augment else [Recipe()]
        generator = torch.Generator().manual_seed(key)
        with torch.autocast(
            device.type, enabled=False
        ):  # colours are float32, also where a callback computes in bf16
            views = [self.view(images, recipe, generator) for recipe in recipes]
        return views, labels.to(device, non_blocking=True), index.to(device, non_blocking=True), key

    def view(self, images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        """One view of each image. Draws for the whole batch on all processes and takes this one's rows."""
        rank, world = self.shard()
        draws = draw(recipe, len(images) * world, images.shape[1:3], generator)
        draws = draws[rank * len(images) : (rank + 1) * len(images)].to(images.device, non_blocking=True)
        return self.augment(images, recipe, draws, self.size, self.color, self.mean, self.std)

    def display(self, view: Tensor) -> Tensor:
        """A view as a person sees it: (B, C, H, W) normalised -> uint8 (B, H, W, C)"""
        mean, std = (torch.tensor(v, device=view.device)[:, None, None] for v in (self.mean, self.std))
        return (view.float() * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    def state_dict(self) -> dict:
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state: dict) -> None:
        if (state["mean"], state["std"]) != (self.mean, self.std):
            raise MisconfigurationException(
                f"the checkpoint was trained with mean {state['mean']} and std {state['std']}, this run has "
                f"{self.mean} and {self.std}: set data.init_args.mean and std to the checkpoint's"
            )
