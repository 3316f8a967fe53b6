"""scikit-learn's digits: 1,797 real handwritten digits, 8x8 pixels. Embedded: nothing to download.

https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
"""

from typing import ClassVar

import numpy as np

from datamodules.images import ImageDataModule
from datamodules.storage.splits import ArraySplit
from datamodules.storage.stratified import stratified_split


class Digits(ImageDataModule):
    """Handwritten digits; a fifth of each class is the test split, always the same."""

    num_classes = 10
    stored, channels = 8, 1
    class_names: ClassVar[list[str]] = list("0123456789")
    default_mean, default_std = (0.305,), (0.376,)

    def __init__(self, **shared):
        super().__init__(name="digits", **shared)

    def read_arrays(self) -> dict[str, ArraySplit]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        labels = digits.target.astype(np.int64)
        train, test = stratified_split(labels, 0.2, seed=0)
        return {"train": ArraySplit(images, labels, train), "test": ArraySplit(images, labels, test)}
