"""MNIST: 60,000 training and 10,000 test handwritten digits, 28x28 pixels.

LeCun et al. 1998, Gradient-based learning applied to document recognition
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from common.ranges import PositiveInt
from datamodules.images import ImageDataModule
from datamodules.storage.download import download_splits
from datamodules.storage.splits import ArraySplit


class MNIST(ImageDataModule):
    """MNIST, downloaded by torchvision and packed into the array layout once; files that exist are used.

    Args:
        size: side of the views in pixels; 32 can be halved five times, as VGG's poolings do.
    """

    num_classes = 10
    stored, channels = 28, 1
    default_mean, default_std = (0.1307,), (0.3081,)
    class_names: ClassVar[list[str]] = list("0123456789")

    def __init__(self, size: PositiveInt | None = 32, **shared):
        super().__init__(name="mnist", size=size, **shared)

    def prepare_data(self) -> None:
        download_splits("MNIST", self.folder, ("train", "test"), self.class_names, self.download_split)

    def download_split(self, split: str, folder: Path) -> ArraySplit:
        from torchvision.datasets import MNIST as Download

        source = Download(folder, train=split == "train", download=True)
        return ArraySplit(source.data.numpy()[..., None], source.targets.numpy().astype(np.int64))
