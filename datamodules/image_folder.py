"""The data module of a user's own image files, in a folder for each class."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.hints import nearest_hint
from common.ranges import PositiveInt
from datamodules.images import ImageDataModule
from datamodules.storage.disk import exclusive_lock, missing_data_error, readable_disk_errors
from datamodules.storage.image_files import OnBadImage, pack_images, read_manifest
from datamodules.storage.image_listing import JPG_OR_PNG, FileListing
from datamodules.storage.labels import read_names
from datamodules.storage.layout import write_arrays

SPLIT_NAMES = {  # what folders of splits are called, in upper or lower case
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}


class ImageFolder(ImageDataModule):
    """JPGs and PNGs in `data_dir/name/CLASS/`, or in `data_dir/name/{train,val,test}/CLASS/`.

    A split may also be called training, valid, validation or testing. A line says what is left out: other files and
    folders, and what is hidden.

    Images are decoded once, on all cores, into the array layout in `data_dir/NAME_SIZE`, which Arrays also reads: RGB,
    turned as EXIF says, the shorter side resized to `size`, the center cropped. `train_on: unlabeled` trains on the
    images that lie directly in `data_dir/name/unlabeled/`.

    Args:
        name: subfolder of `data_dir`.
        size: side in pixels of the images that are stored; views have it unless they crop.
        on_bad_image: what to do about images that cannot be decoded: `error` names them, `skip` leaves them out and
            says how many.
    """

    channels = 3
    how_to_get: ClassVar[str] = "put a folder of JPGs or PNGs for each class there"

    def __init__(self, name: str, size: PositiveInt = 64, on_bad_image: OnBadImage = "error", **shared):
        super().__init__(name=f"{name}_{size}", **shared)
        self.root, self.stored, self.on_bad_image = self.folder.with_name(Path(name).name), size, on_bad_image

    @cached_property
    def names(self) -> list[str] | None:
        """Names of the class folders, read when first asked for: a head may need their number before `setup`."""
        with readable_disk_errors(self.root):
            if not self.root.is_dir():
                return read_names(self.folder / "classes.txt")
            return [folder.name for folder in list_class_folders(self.split_folders()["train"])]

    @cached_property
    def class_names(self) -> list[str] | None:
        return self.names

    @cached_property
    def num_classes(self) -> int | None:
        return len(self.names) if self.names else None

    def prepare_data(self) -> None:
        with readable_disk_errors(self.root):
            if not self.root.is_dir():  # the decoded arrays are used without it
                if not self.locate_file("train", "images").is_file():
                    raise missing_data_error(self.root, self.how_to_get)
                return
            splits = self.files_of_splits
            for split in {"val", "test"} - splits.keys():  # it may have been there when others were decoded
                self.locate_file(split, "images").unlink(missing_ok=True)
        bits = None  # those of the training images are all images'
        for split, files in splits.items():
            out = self.locate_file(split, "images")
            bits = pack_images(files, out, None, self.stored, self.on_bad_image, bits).bits or bits
        self.write_labels([split for split in splits if split != "unlabeled"])

    def split_folders(self) -> dict[str, Path]:
        """Find the folder that holds the class folders of each split, `train` first."""
        folders = {}
        for folder in sorted(self.root.iterdir()):
            split = SPLIT_NAMES.get(folder.name.lower())
            if split is None or not folder.is_dir():
                continue
            if split in folders:
                raise MisconfigurationException(
                    f"{self.root.absolute()}: {folders[split].name} and {folder.name} are one split: keep one of them"
                )
            folders[split] = folder
        if folders and "train" not in folders:
            raise MisconfigurationException(
                f"{self.root.absolute()} has a folder {next(iter(folders.values())).name} and none called train: "
                "put class folders into train, or directly there"
            )
        return {split: folders[split] for split in ("train", "val", "test") if split in folders} or {
            "train": self.root
        }

    @cached_property
    def files_of_splits(self) -> dict[str, dict[str, Path]]:
        """The images of each split by their paths inside the folder, listed once; a line says what is left out."""
        listing, splits, split_folders = FileListing(self.root, JPG_OR_PNG), {}, self.split_folders()
        for split, split_folder in split_folders.items():
            folders = list_class_folders(split_folder)
            for folder in folders:
                if folder.name not in self.names:
                    hint = nearest_hint(folder.name, self.names, "class")
                    raise MisconfigurationException(f"{folder.absolute()}: train has no such class{hint}")
            if not folders:
                raise MisconfigurationException(
                    f"no class folders in {split_folder.absolute()}: {self.how_to_get}"
                )
            splits[split] = self.list_files(folders, listing)
        if "unlabeled" in self.sources:
            folder = self.root / "unlabeled"
            if not folder.is_dir():
                raise missing_data_error(folder, self.how_to_get)
            splits["unlabeled"] = self.list_files([folder], listing)
        for folder in dict.fromkeys([self.root, *split_folders.values()]):
            listing.leave_out_rest(folder)
        rank_zero_info(listing.describe({split: len(files) for split, files in splits.items()}))
        return splits

    def list_files(self, folders: list[Path], listing: FileListing) -> dict[str, Path]:
        """List images by their paths inside the root. Raise where a folder has none."""
        files = {}
        for folder in folders:
            images = listing.list_images(folder)
            if not images:
                raise MisconfigurationException(f"no JPGs or PNGs in {folder.absolute()}")
            files |= {path.relative_to(self.root).as_posix(): path for path in images}
        return files

    def write_labels(self, splits: list[str]) -> None:
        """Write the labels of the decoded images, from the names of their folders, unless they are there."""
        arrays = {}
        for split in splits:
            ids = read_manifest(self.locate_file(split, "images"))["ids"]
            labels = np.array([self.names.index(Path(image).parent.name) for image in ids], np.int64)
            path = self.locate_file(split, "labels")
            if not path.is_file() or not np.array_equal(np.load(path), labels):
                arrays[path.stem] = labels
        if arrays or read_names(self.folder / "classes.txt") != self.names:
            with exclusive_lock(self.folder):
                write_arrays(self.folder, arrays, self.names)


def list_class_folders(split_folder: Path) -> list[Path]:
    """List class folders by name; hidden ones and `unlabeled` are none."""
    folders = (path for path in split_folder.iterdir() if path.is_dir() and path.name != "unlabeled")
    return sorted(folder for folder in folders if not folder.name.startswith("."))
