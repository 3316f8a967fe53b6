"""CIFAR-10: 50,000 training and 10,000 test photographs of ten classes, 32x32 pixels.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.images import ImageDataModule
from datamodules.storage.download import download_splits
from datamodules.storage.splits import ArraySplit


class CIFAR10(ImageDataModule):
    """CIFAR-10, downloaded by torchvision and packed into the array layout once; files that exist are used."""

    num_classes = 10
    stored, channels = 32, 3
    default_mean, default_std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
    class_names: ClassVar[list[str]] = [
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ]

    def __init__(self, **shared):
        super().__init__(name="cifar10", **shared)

    def prepare_data(self) -> None:
        download_splits("CIFAR-10", self.folder, ("train", "test"), self.class_names, self.download_split)

    def download_split(self, split: str, folder: Path) -> ArraySplit:
        from torchvision.datasets import CIFAR10 as Download

        source = Download(folder, train=split == "train", download=True)
        return ArraySplit(source.data, np.asarray(source.targets, np.int64))
