"""Your own images as .npy files."""

from pathlib import Path
from typing import Literal

from datamodules.base import ImageDataModule


class Arrays(ImageDataModule):
    """Images (N, H, W, C) uint8 and, where there are any, labels (N,) int64, from .npy files.

    Args:
        name: subfolder of `data_dir` in the array layout.
        files: where files are called or lie otherwise, e.g. `{train_images: trainX.npy, val_images: valX.npy,
            val_labels: valY.npy}`; paths relative to `data_dir/name`.
    """

    def __init__(self, name: str = "", files: dict[str, str] | None = None, **shared):
        super().__init__(name=name, **shared)
        self.files = files or {}

    def path(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.folder / self.files.get(f"{split}_{kind}", f"{split}_{kind}.npy")
