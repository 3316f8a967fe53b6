"""Images: arrays on disk -> whole uint8 batches -> views on the device."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch, BatchKey
from datamodules.augmentation.augment import augment, draw_params
from datamodules.augmentation.geometry import crop_center
from datamodules.augmentation.recipe import Recipe, check_recipe
from datamodules.base import DataModule
from datamodules.loading.resident import keep_resident
from datamodules.storage.disk import readable_disk_errors
from datamodules.storage.groups import Groups, merge_classes
from datamodules.storage.image_files import OnBadImage, read_manifest
from datamodules.storage.labels import check_labels, name_labels, read_labels
from datamodules.storage.layout import check_images, read_images
from datamodules.storage.loose_images import LooseImages
from datamodules.storage.splits import ArraySplit, make_splits


class ImageDataModule(DataModule):
    """Images as plain arrays under `data_dir/name`; the README, under Data, has the layout.

    Args:
        name: subfolder of `data_dir`.
        data_dir: where the data sets live.
        views: recipes of the views of an image that a training batch holds, one or several `copies` each; one view
            without augmentation if None.
        size: side in pixels of square views whose recipe has no size; the crop's or else the stored height if None.
        center_crop: side in pixels of the central part that all but training sees; the whole image if None.
        mean, std: of each channel, subtracted and divided after scaling to [0, 1]; the data set's own if None.
        train_on: `labeled` trains on the training split; `unlabeled` on images without labels of their own file, while
            validation, kNN and probes keep to the training split.
        unlabeled: how many of those, always the same; all if None.
        val_size: share of each class that is carved from the training split where there is no val split, or from 1 a
            number of images, as many of each class; 0 for no validation.
        fraction: share of each class of the training split (with `train_on: unlabeled`, of the bank) that is kept,
            once validation is carved. The other images are gone, for methods without labels too: to learn from all
            images and few labels, pretrain without a budget and give it to what starts from the checkpoint.
        labels_per_class: the same, as a number of images of each class.
        split_seed: of what is carved and kept. It has nothing to do with the run's seed.
        groups: classes to merge, `{animals: [bird, cat], vehicles: [car]}`; images of other classes, and of
            unknown ones, are left out; a file of images without labels stays whole.
        color: `exact` as torchvision computes color jitter, `fast` as one affine map of the colors.
        compile: let torch.compile fuse the augmentation (a compiler is needed; the first batches are slow).
        resident: keep training and validation images on the GPU (all of them on each) and pick batches there instead of
            copying them there. The batches are the same; a line says how much of its memory this takes.
    """

    default_mean: ClassVar[tuple[float, ...]] = (0.5,)
    default_std: ClassVar[tuple[float, ...]] = (0.5,)
    how_to_get: ClassVar[str] = "put the files of the array layout there (README, Data)"
    target_names: list[str] | None = None  # of labels that are numbers
    crop: int | None = None  # side of the central square that is kept of an image file; all of it if None

    def __init__(
        self,
        name: str,
        data_dir: str = "data",
        views: list[Recipe] | None = None,
        size: int | None = None,
        center_crop: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        train_on: Literal["labeled", "unlabeled"] = "labeled",
        unlabeled: int | None = None,
        val_size: int | float = 0.1,
        fraction: float = 1.0,
        labels_per_class: int | None = None,
        split_seed: int = 0,
        groups: Groups | None = None,
        color: Literal["exact", "fast"] = "exact",
        compile: bool = False,
        resident: bool = False,
        **shared,
    ):
        super().__init__(views=views or [Recipe()], **shared)
        self.folder = Path(data_dir) / name
        self.size = size
        self.center_crop = center_crop
        self.mean, self.std = mean or list(self.default_mean), std or list(self.default_std)
        self.sources = ["train", "unlabeled"] if train_on == "unlabeled" else ["train"]
        self.unlabeled = unlabeled
        self.val_size, self.split_seed = val_size, split_seed
        self.fraction, self.labels_per_class = fraction, labels_per_class
        self.groups = groups
        if groups:
            self.num_classes = len(groups)  # a model may ask before the data are read
        self.color = color
        self.augment = torch.compile(augment) if compile else augment
        self.resident = resident

    @property
    def augments(self) -> bool:
        """Whether training may see an image otherwise than validation does."""
        return self.views != [Recipe()] or self.center_crop is not None

    @property
    def recipes(self) -> list[Recipe]:
        """The recipe of each view of a training batch, with its size, once `setup` has run."""
        stored = self.rows_of("train").images.shape[1]
        return [
            replace(recipe, size=recipe.size or self.size or recipe.crop or stored, copies=1)
            for recipe in self.views
            for _ in range(recipe.copies)
        ]

    def path(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.folder / f"{split}_{kind}.npy"

    def missing(self, path: Path) -> MisconfigurationException:
        return MisconfigurationException(
            f"no data set at {path.absolute()}: {self.how_to_get}, "
            "or point --data.init_args.data_dir to where it is"
        )

    def setup(self, stage: str) -> None:
        if not self.datasets:
            self.open_splits()
        if self.resident and stage == "fit" and self.trainer:  # other verbs read each image once
            keep_resident(self.trainer.strategy.root_device, self.datasets, self.num_workers)

    def open_splits(self) -> None:
        """Files -> `datasets`, and what follows from them."""
        with readable_disk_errors(self.folder):
            arrays = self.read()
            for source in self.sources:
                if source not in arrays:
                    raise self.missing(self.path(source, "images"))
            known = self.class_names, None if self.groups else self.num_classes, self.target_names
            self.class_names, self.target_names = name_labels(arrays, self.folder, *known)
        self.check(arrays)
        if self.groups:
            arrays = merge_classes(arrays, self.class_names, self.groups)
            self.class_names = list(self.groups)
        self.num_classes = len(self.class_names) if self.class_names else None
        budget = self.fraction, self.labels_per_class
        self.datasets = make_splits(arrays, self.val_size, self.split_seed, self.unlabeled, *budget)
        if "val" not in self.datasets:
            rank_zero_info(f"val_size {self.val_size:g}: no validation images, their numbers are skipped")

    def read(self) -> dict[str, ArraySplit]:
        """Images and labels of each split that exists."""
        arrays, opened = {}, {}
        for split in (*self.sources, "val", "test"):
            images_path, labels_path = self.path(split, "images"), self.path(split, "labels")
            if images_path.is_file():
                # one array of a file that is several splits: `make_splits` keeps validation out of the others
                images = opened.setdefault(images_path.resolve(), read_images(images_path))
                has_labels = labels_path.is_file() and split != "unlabeled"
                arrays[split] = ArraySplit(
                    images, read_labels(labels_path, len(images)) if has_labels else None
                )
        return arrays

    @property
    def num_outputs(self) -> int | None:
        """Width of a head for the labels."""
        return len(self.target_names) if self.target_names else self.num_classes

    def check(self, arrays: dict[str, ArraySplit]) -> None:
        """Raises where splits, normalization, crops and recipes do not fit each other."""
        channels = arrays["train"].images.shape[-1]
        for split, (images, labels, _) in arrays.items():
            check_images(self.path(split, "images"), images, channels, self.center_crop)
            if labels is not None:
                check_labels(self.path(split, "labels"), labels, self.class_names, self.target_names)
        self.mean, self.std = (v * channels if len(v) == 1 else v for v in (self.mean, self.std))
        if not len(self.mean) == len(self.std) == channels:
            raise MisconfigurationException(
                f"mean {self.mean} and std {self.std}: the images of {self.folder} have {channels} channels, "
                "give one number for each (or a single one for all)"
            )
        for source in self.sources:
            for recipe in self.views:
                check_recipe(recipe, *arrays[source].images.shape[1:])

    def prepare(self, stored: tuple, device: torch.device, augment: bool) -> Batch:
        """Stored rows and their key -> the batch that a step reads, on `device`.

        Args:
            stored: images uint8 (B, H, W, C), labels, index, key, as a loader yields them.
            augment: draw `views` with the key; otherwise one view, of the center if so asked, without augmentation.
        """
        images, labels, index, key = stored
        # a copy of resident images to the CPU must be waited for
        images = images.to(device, non_blocking=device.type != "cpu")
        if self.center_crop and not augment:
            images = crop_center(images, self.center_crop)
        recipes = self.recipes if augment else [Recipe(size=self.size or 0)]
        generator = torch.Generator().manual_seed(key.number)
        # colors are float32, also where a callback computes in bf16
        with torch.autocast(device.type, enabled=False):
            views = [self.make_view(images, recipe, key, generator) for recipe in recipes]
        labels, index = (column.to(device, non_blocking=True) for column in (labels, index))
        return Batch(views, labels, index, key)

    def make_view(self, images: Tensor, recipe: Recipe, key: BatchKey, generator: torch.Generator) -> Tensor:
        """One view of each image (B, C, S, S). Draws for the batch of all processes and takes this one's rows."""
        params = draw_params(recipe, key.rows, images.shape[1:3], generator, key.local)
        params = params.to(images.device, non_blocking=True)
        return self.augment(images, recipe, params, recipe.size, self.color, self.mean, self.std)

    def display(self, view: Tensor) -> Tensor:
        """A view as a person sees it: (B, C, H, W) normalized -> uint8 (B, H, W, C)"""
        mean, std = (torch.tensor(v, device=view.device)[:, None, None] for v in (self.mean, self.std))
        return (view.float() * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    def raw(self, view: Tensor) -> Tensor:
        """Views (B, C, H, W) themselves as features, averaged down to at most 32 x 32: (B, C * h * w)"""
        size = [min(32, side) for side in view.shape[2:]]
        return F.adaptive_avg_pool2d(view, size).flatten(1)

    def names_of(self, split: str) -> list[str] | None:
        """The file that each image of a split was decoded from; None where they came as arrays."""
        rows = self.datasets[split]
        file = getattr(rows.images, "filename", None)  # of a memory map
        names = read_manifest(Path(file)).get("ids") if file else None
        return [names[row] for row in rows.rows] if names else None

    def loose_images(self, folder: Path, on_bad_image: OnBadImage) -> LooseImages:
        """Other images, in a folder and those in it, decoded to the size of the stored ones."""
        _, side, _, channels = self.datasets["train"].images.shape
        return LooseImages(folder, self.crop, side, channels, on_bad_image)

    def state_dict(self) -> dict:
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state: dict) -> None:
        if (state["mean"], state["std"]) != (self.mean, self.std):
            raise MisconfigurationException(
                f"the checkpoint was trained with mean {state['mean']} and std {state['std']}, this run has "
                f"{self.mean} and {self.std}: set data.init_args.mean and std to the checkpoint's"
            )
