"""STL-10: 5,000 training and 8,000 test photographs of ten classes, and 100,000 without labels, 96x96 pixels.

Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10
"""

import shutil
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.ranges import NonNegativeInt
from datamodules.images import ImageDataModule
from datamodules.storage.download import download_splits
from datamodules.storage.splits import ArraySplit


class STL10(ImageDataModule):
    """STL-10, downloaded by torchvision (2.6 GB) and packed into the array layout once; files that exist are used.

    Training reads the images without labels, probes and kNN the 5,000 labeled ones, less those held out for validation.

    Args:
        fold: 0 ... 9 for one of the ten official choices of 1,000 of the 5,000; all if None.
        train_on: `unlabeled`, or `labeled` to train on what probes read.
    """

    num_classes = 10
    stored, channels = 96, 3
    default_mean, default_std = (0.447, 0.440, 0.407), (0.260, 0.257, 0.271)
    class_names: ClassVar[list[str]] = [
        *("airplane", "bird", "car", "cat", "deer"),
        *("dog", "horse", "monkey", "ship", "truck"),
    ]

    def __init__(
        self,
        fold: NonNegativeInt | None = None,
        train_on: Literal["labeled", "unlabeled"] = "unlabeled",
        **shared,
    ):
        super().__init__(name="stl10", train_on=train_on, **shared)
        self.fold = fold

    def prepare_data(self) -> None:
        download_splits("STL-10", self.folder, (*self.sources, "test"), self.class_names, self.download_split)

    def download_split(self, split: str, folder: Path) -> ArraySplit:
        from torchvision.datasets import STL10 as Download

        source = Download(folder, split=split, download=True)
        if split == "train":
            shutil.copy(folder / Download.base_folder / Download.folds_list_file, self.folder)
        labels = None if split == "unlabeled" else source.labels.astype(np.int64)
        return ArraySplit(source.data.transpose(0, 2, 3, 1), labels)

    def read_arrays(self) -> dict[str, ArraySplit]:
        arrays = super().read_arrays()
        if self.fold is None:
            return arrays
        return arrays | {"train": arrays["train"].select_rows(self.fold_rows())}

    def fold_rows(self) -> np.ndarray:
        """Read the rows of the fold among the labeled training images."""
        path = self.folder / "fold_indices.txt"
        if not path.is_file():
            raise MisconfigurationException(
                f"fold: there is no {path.absolute()}: put STL-10's own there, or set fold to null"
            )
        folds = [
            np.array(line.split(), np.int64) for line in path.read_text(encoding="utf-8-sig").splitlines()
        ]
        if self.fold >= len(folds):
            raise MisconfigurationException(
                f"fold: {self.fold} is none of {path}: give 0 ... {len(folds) - 1}"
            )
        return folds[self.fold]
