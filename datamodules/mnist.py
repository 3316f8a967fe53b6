"""MNIST: 60,000 training and 10,000 test handwritten digits, 28x28 pixels.

LeCun et al. 1998, Gradient-based learning applied to document recognition
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import ImageDataModule
from datamodules.download import pack
from datamodules.splits import Stored, carve


class MNIST(ImageDataModule):
    """Downloaded by torchvision and packed into the array layout once; what is there already is used as it is.

    Args:
        fraction: share of each class of the training images that is used, always the same ones.
        size: side of the views in pixels; 32 can be halved five times, as VGG's poolings do.
    """

    num_classes = 10
    default_mean, default_std = (0.1307,), (0.3081,)
    class_names: ClassVar[list[str]] = list("0123456789")

    def __init__(self, fraction: float = 1.0, size: int | None = 32, **shared):
        super().__init__(name="mnist", size=size, **shared)
        self.fraction = fraction

    def prepare_data(self) -> None:
        pack("MNIST", self.folder, ("train", "test"), self.class_names, self.fetch)

    def fetch(self, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        from torchvision.datasets import MNIST as Download

        source = Download(folder, train=split == "train", download=True)
        return source.data.numpy()[..., None], source.targets.numpy().astype(np.int64)

    def read(self) -> dict[str, Stored]:
        if not 0 < self.fraction <= 1:
            raise MisconfigurationException(
                f"fraction: {self.fraction} is no share of the images: give one in (0, 1]"
            )
        arrays = super().read()
        images, labels = arrays["train"]
        _, rows = carve(labels, self.fraction, seed=0)
        return arrays | {"train": (images[rows], labels[rows])} if self.fraction < 1 else arrays
