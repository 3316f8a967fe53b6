"""Images: arrays on disk -> whole uint8 batches -> views on the device."""

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch
from common.ranges import (
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Seed,
    ShareBelowOne,
)
from datamodules.augmentation.augment import augment_images
from datamodules.augmentation.geometry import crop_center
from datamodules.augmentation.normalization import (
    check_same_normalization,
    fit_normalization,
    undo_normalization,
)
from datamodules.augmentation.recipe import Recipe, check_recipe
from datamodules.augmentation.views import list_copies, make_views
from datamodules.base import DataModule
from datamodules.loading.resident import keep_resident
from datamodules.storage.array_files import check_array_splits, describe_arrays, open_array_splits
from datamodules.storage.disk import missing_data_error, readable_disk_errors
from datamodules.storage.groups import Groups, merge_classes
from datamodules.storage.image_files import OnBadImage, read_array_manifest, read_image_names
from datamodules.storage.labels import name_labels
from datamodules.storage.loose_images import LooseImages
from datamodules.storage.noise import random_images, random_labels
from datamodules.storage.splits import TEST_SEED, ArraySplit, hold_out_split, make_splits


class ImageDataModule(DataModule):
    """Images as plain arrays under `data_dir/name`; the README, under Data, has the layout.

    Args:
        name: subfolder of `data_dir`.
        data_dir: where the data sets live.
        views: recipes of the views of an image that a training batch holds, one or several `copies` each; one view
            without augmentation if None.
        size: side in pixels of square views whose recipe has no size; the crop's, or else the stored images' if None.
            Of images that are not square it is the shorter side, and views that do not crop are of the central square.
        center_crop: side in pixels of the central part that all but training sees; the whole image if None.
        mean, std: of each channel, subtracted and divided after scaling to [0, 1]; the data set's own if None.
        train_on: `labeled` trains on the training split; `unlabeled` on images without labels of their own file, while
            validation, kNN and probes keep to the training split.
        unlabeled: how many of those, always the same; all if None.
        val_size: share of each class that is carved from the training split where there is no val split, and at least
            one image of each class that has two; or from 1 a number of images, as many of each class; 0 for none.
        test_size: the same for a test split, which is carved before it and always the same; 0 for none.
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
    channels: ClassVar[int | None] = None  # of all images of the data set, where they are known
    stored: int | None = None  # side of the stored images, where it is known before they are read
    crop: int | None = None  # side of the central square that is kept of an image file; all of it if None

    def __init__(
        self,
        name: str,
        data_dir: str = "data",
        views: list[Recipe] | None = None,
        size: PositiveInt | None = None,
        center_crop: PositiveInt | None = None,
        mean: list[FiniteFloat] | None = None,
        std: list[PositiveFloat] | None = None,
        train_on: Literal["labeled", "unlabeled"] = "labeled",
        unlabeled: PositiveInt | None = None,
        val_size: NonNegativeInt | ShareBelowOne = 0.1,
        test_size: NonNegativeInt | ShareBelowOne = 0,
        fraction: PositiveShare = 1.0,
        labels_per_class: PositiveInt | None = None,
        split_seed: Seed = 0,
        groups: Groups | None = None,
        color: Literal["exact", "fast"] = "exact",
        compile: bool = False,
        resident: bool = False,
        **shared,
    ):
        super().__init__(views=list_copies(views or [Recipe()]), **shared)
        self.folder = Path(data_dir) / name
        self.size, self.center_crop, self.color = size, center_crop, color
        self.mean, self.std = mean or list(self.default_mean), std or list(self.default_std)
        self.sources = ["train", "unlabeled"] if train_on == "unlabeled" else ["train"]
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed
        self.unlabeled, self.fraction, self.labels_per_class = unlabeled, fraction, labels_per_class
        self.groups, self.resident = groups, resident
        if groups:
            self.num_classes = len(groups)  # a model may ask before the data are read
        self.augment = torch.compile(augment_images) if compile else augment_images

    @property
    def augments(self) -> bool:
        """Whether training may see an image otherwise than validation does."""
        return self.views != [Recipe()] or self.center_crop is not None

    @property
    def recipes(self) -> list[Recipe]:
        """The recipe of each view of a training batch, with its size, once `setup` has run."""
        stored = min(self.rows_of("train").images.shape[1:3])
        return [
            replace(recipe, size=recipe.size or self.size or recipe.crop or stored) for recipe in self.views
        ]

    def locate_file(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.folder / f"{split}_{kind}.npy"

    def setup(self, stage: str) -> None:
        if not self.datasets:
            self.open_splits()
        if self.resident and stage == "fit" and self.trainer:  # other verbs read each image once
            keep_resident(self.trainer.strategy.root_device, self.datasets, self.num_workers)

    def open_splits(self) -> None:
        """Read the files into `datasets`, and set the names and number of classes that follow from them."""
        with readable_disk_errors(self.folder):
            arrays = self.read_arrays()
            for source in self.sources:
                if source not in arrays:
                    raise missing_data_error(self.locate_file(source, "images"), self.how_to_get)
            num_classes = None if self.groups else self.num_classes
            self.class_names, self.target_names = name_labels(
                arrays, self.folder, self.class_names, num_classes, self.target_names
            )
        self.check_arrays(arrays)
        if "test" not in arrays and self.test_size:  # before classes are merged: the same for any groups
            classes = arrays["train"].row_classes()
            arrays = hold_out_split(arrays, "test", classes, self.test_size, TEST_SEED, self.class_names)
        if self.groups:
            arrays = merge_classes(arrays, self.class_names, self.groups)
            self.class_names = list(self.groups)
        self.num_classes = len(self.class_names) if self.class_names else None
        budget = self.fraction, self.labels_per_class
        self.datasets = make_splits(
            arrays, self.val_size, self.split_seed, self.unlabeled, *budget, self.class_names
        )
        uncropped = not self.center_crop or not all(recipe.crops for recipe in self.views)
        notes = describe_arrays([split.images for split in arrays.values()], uncropped)
        if notes:
            rank_zero_info(f"{self.folder}: {'; '.join(notes)}")
        if "val" not in self.datasets:
            rank_zero_info(f"val_size {self.val_size:g}: no validation images, their numbers are skipped")

    def fill_with_noise(self, channels: int) -> None:
        """Fill `datasets` with random images, of the shape that the data set has or, where it is not known, files have.

        Without either, the largest side in the config is taken for that of the images.
        """
        sides = [side for recipe in self.views for side in (recipe.size, recipe.crop)]
        side = self.stored or max(self.size or 0, self.center_crop or 0, *sides)
        shape = side, side, self.channels or (len(self.mean) if len(self.mean) > 1 else channels)
        if not self.stored and self.locate_file("train", "images").is_file():
            self.open_splits()
            shape = self.rows_of("train").images.shape[1:]
        if not shape[0]:
            raise MisconfigurationException(
                f"nothing says how large the images of {type(self).__name__} are: give their side as "
                f"data.init_args.size, or {self.how_to_get}: {self.folder.absolute()}"
            )
        self.mean, self.std = fit_normalization(self.mean, self.std, shape[2], self.folder)
        for recipe in self.views:
            check_recipe(recipe, *shape)
        labels = random_labels(8, self.num_classes, self.num_outputs)
        rows = random_images(shape, labels, rows=max(8, self.batch_size))
        self.datasets = {"train": rows, "val": rows}

    def read_arrays(self) -> dict[str, ArraySplit]:
        """Read images and labels of each split that exists."""
        return open_array_splits((*self.sources, "val", "test"), self.locate_file)

    @property
    def num_outputs(self) -> int | None:
        """Width of a head for the labels."""
        return len(self.target_names) if self.target_names else self.num_classes

    def check_arrays(self, arrays: dict[str, ArraySplit]) -> None:
        """Raise where splits, normalization, crops and recipes do not fit each other."""
        check_array_splits(arrays, self.locate_file, self.center_crop, self.class_names, self.target_names)
        channels = arrays["train"].images.shape[-1]
        self.mean, self.std = fit_normalization(self.mean, self.std, channels, self.folder)
        for source, recipe in product(self.sources, self.views):
            check_recipe(recipe, *arrays[source].images.shape[1:])

    def prepare_batch(self, stored: tuple, device: torch.device, augment: bool) -> Batch:
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
        make_view = partial(self.augment, size=self.size, color=self.color, mean=self.mean, std=self.std)
        views = make_views(images, self.views if augment else [Recipe()], key, make_view)
        labels, index = (column.to(device, non_blocking=True) for column in (labels, index))
        return Batch(views, labels, index, key)

    def display(self, view: Tensor) -> Tensor:
        """A view as a person sees it: (B, C, H, W) normalized -> uint8 (B, H, W, C)"""
        return undo_normalization(view, self.mean, self.std)

    def compute_raw_features(self, view: Tensor) -> Tensor:
        """Views (B, C, H, W) themselves as features, averaged down to at most 32 x 32: (B, C * h * w)"""
        size = [min(32, side) for side in view.shape[2:]]
        return F.adaptive_avg_pool2d(view, size).flatten(1)

    def names_of(self, split: str) -> list[str] | None:
        """The file that each image of a split was decoded from; None where they came as arrays."""
        return read_image_names(self.datasets[split].images, self.datasets[split].rows)

    def loose_images(self, folder: Path, on_bad_image: OnBadImage) -> LooseImages:
        """Other images, in a folder and those in it, decoded to the size of the stored ones."""
        images = self.datasets["train"].images
        side, channels = min(images.shape[1:3]), images.shape[3]
        bits = read_array_manifest(images).get("bits")
        return LooseImages(folder, self.crop, side, channels, on_bad_image, bits)

    def state_dict(self) -> dict:
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state: dict) -> None:
        check_same_normalization(state, self.mean, self.std)
