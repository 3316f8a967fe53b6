"""CIFAR-10: 50,000 training and 10,000 test photographs of ten classes, 32x32 pixels.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

from typing import ClassVar

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import ImageDataModule
from datamodules.layout import write_arrays


class CIFAR10(ImageDataModule):
    """Downloaded by torchvision and packed into the array layout once; what is there already is used as it is."""

    num_classes = 10
    default_mean, default_std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
    class_names: ClassVar[list[str]] = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]

    def __init__(self, **shared):
        super().__init__(name="cifar10", **shared)

    def prepare_data(self) -> None:
        names = [self.path(split, kind) for split in ("train", "test") for kind in ("images", "labels")]
        if all(path.is_file() for path in names):
            return
        from torchvision.datasets import CIFAR10 as Download

        arrays = {}
        for split in ("train", "test"):
            try:
                source = Download(self.folder / "download", train=split == "train", download=True)
            except (OSError, RuntimeError) as error:
                raise MisconfigurationException(
                    f"no CIFAR-10 in {self.folder.absolute()}, and downloading it failed ({error}): "
                    "try again, or point --data.init_args.data_dir to the folder that holds cifar10/"
                ) from error
            arrays[f"{split}_images"] = source.data
            arrays[f"{split}_labels"] = np.asarray(source.targets, np.int64)
        write_arrays(self.folder, arrays, self.class_names)
