"""Which rows of the arrays make up which split: by seeds of their own, never by the run's."""

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.loader import RowsDataset

Stored = tuple[np.ndarray, np.ndarray | None]  # images (N, H, W, C) and, where there are any, labels


def carve(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, class by class: (rows kept, rows carved), both ascending. Depends on labels and seed alone."""
    rng = np.random.default_rng(seed)
    carved = [
        rng.permutation(rows)[: round(share * len(rows))] for rows in map(np.flatnonzero, _one_hot(labels))
    ]
    carved = np.sort(np.concatenate(carved))
    return np.setdiff1d(np.arange(len(labels)), carved), carved


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels)[:, None] == labels


def choose(count: int, wanted: int | None) -> np.ndarray:
    """`wanted` of `count` rows, ascending, always the same and part of every larger choice; all if None."""
    if wanted is not None and not 0 < wanted <= count:
        raise MisconfigurationException(
            f"unlabeled: {wanted} of {count} unlabelled images: give a number up to {count}, or null for all"
        )
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted])


def divide(
    arrays: dict[str, Stored], val_size: float, seed: int, unlabeled: int | None
) -> dict[str, RowsDataset]:
    """The arrays of each split -> its rows.

    Without a `val` of its own, validation is carved from `train`. Where there are `unlabeled` images, so many of them
    become `train`, and the labelled training images `bank`.
    """
    splits = {name: RowsDataset(*stored) for name, stored in arrays.items()}
    if "val" not in arrays:
        images, labels = arrays["train"]
        parts = carve(np.zeros(len(images)) if labels is None else labels, val_size, seed)
        splits["train"], splits["val"] = (RowsDataset(images, labels, rows) for rows in parts)
    if "unlabeled" in splits:
        images = splits.pop("unlabeled").images
        splits["bank"] = splits["train"]
        splits["train"] = RowsDataset(images, rows=choose(len(images), unlabeled))
    return splits
