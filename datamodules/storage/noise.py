"""Random rows in the place of a data set's: of the same shapes, for checks that need no data."""

import numpy as np

from datamodules.loading.loader import RowsDataset
from datamodules.texts import TextRows


def random_labels(count: int, classes: int | None, targets: int | None) -> np.ndarray | None:
    """Labels (N,) of which neighbors differ, numbers (N, T) in [0, 1) where there are no classes, or None."""
    if classes:
        return np.arange(count) % classes
    return np.random.default_rng(0).random((count, targets), np.float32) if targets else None


def random_images(shape: tuple[int, int, int], labels: np.ndarray | None, rows: int) -> RowsDataset:
    """Images of random pixels.

    Args:
        shape: H, W, C.
        labels: of the images; 8 images if None.
        rows: examples of the split, which repeat the images.
    """
    count = 8 if labels is None else len(labels)
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    return RowsDataset(images, labels, np.arange(rows) % count)


def random_texts(count: int, length: int, labels: np.ndarray) -> TextRows:
    """Texts of random characters, of half to all of a length."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(length, max(1, length // 2), count).astype(int)
    texts = [bytes(rng.integers(32, 127, size, np.uint8)) for size in lengths]
    return TextRows(texts, labels.tolist())
