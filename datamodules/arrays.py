"""The data module of a user's own images in .npy files."""

from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.images import ImageDataModule
from datamodules.storage.splits import ArraySplit


class Arrays(ImageDataModule):
    """Images (N, H, W, C) uint8 and, where there are any, labels, from .npy files: classes (N,) int64, which
    classes.txt may name, or numbers (N, T) float32, which targets.txt may name.

    `train_on: unlabeled` also needs unlabeled_images.npy.

    Args:
        name: subfolder of `data_dir` in the array layout.
        files: those with other names or places, e.g. `{train_images: trainX.npy, val_images: valX.npy,
            val_labels: valY.npy}`; paths relative to `data_dir/name`.
    """

    def __init__(self, name: str = "", files: dict[str, str] | None = None, **shared):
        super().__init__(name=name, **shared)
        self.files = files or {}

    def read_arrays(self) -> dict[str, ArraySplit]:
        keys = [f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels")]
        keys.append("unlabeled_images")
        for key, file in self.files.items():
            if key not in keys:
                raise MisconfigurationException(f"files: unknown key {key!r}, it is one of {', '.join(keys)}")
            if not (self.folder / file).is_file():
                raise MisconfigurationException(
                    f"files: {key}: there is no {(self.folder / file).absolute()}"
                )
        return super().read_arrays()

    def locate_file(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.folder / self.files.get(f"{split}_{kind}", f"{split}_{kind}.npy")
