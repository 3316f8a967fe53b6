"""Which rows of the arrays make up which split: by seeds of their own, never by the run's."""

from typing import NamedTuple

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.loading.loader import RowsDataset


class Stored(NamedTuple):
    """Rows of arrays.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: of all N, int64 (N,) or float32 (N, T); None where there are none.
        rows: positions (n,) of those that are meant; all if None.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> "Stored":
        """Those at some positions among the rows."""
        return self._replace(rows=positions if self.rows is None else self.rows[positions])

    def classes(self) -> np.ndarray:
        """Class of each row, int64 (n,), -1 where unknown; where there are none, all rows are of one."""
        rows = np.arange(len(self.images)) if self.rows is None else self.rows
        one = self.labels is None or self.labels.ndim == 2
        return np.zeros(len(rows), np.int64) if one else self.labels[rows]


def carve(
    labels: np.ndarray, size: float, seed: int, option: str = "val_size"
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, class by class: (rows kept, rows carved), both ascending.

    Depends on labels, size and seed alone, and a smaller size is part of a larger one.

    Args:
        labels: classes (N,), -1 where unknown.
        size: below 1 a share of each class, and of the unknown; from 1 a number of rows, as many of each class.
        option: what the config calls the size.

    Raises:
        MisconfigurationException: a class has not as many.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    orders = [rng.permutation(np.flatnonzero(labels == k)) for k in classes]
    if size < 1:
        counts = [round(size * len(order)) for order in orders]
    else:
        known = classes >= 0
        each, more = divmod(int(size), max(1, known.sum()))
        counts = np.where(known, each + (np.cumsum(known) <= more), 0)
    for k, order, count in zip(classes, orders, counts, strict=True):
        if not 0 <= count <= len(order):
            raise MisconfigurationException(
                f"{option} asks for {count} images of class {k}, and {len(order)} are there: ask for fewer"
            )
    carved = np.sort(np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), carved), carved


def choose(count: int, wanted: int | None) -> np.ndarray:
    """`wanted` of `count` rows, ascending, always the same and part of every larger choice; all if None."""
    if wanted is not None and not 0 < wanted <= count:
        raise MisconfigurationException(
            f"unlabeled: {wanted} of {count} unlabeled images: give a number up to {count}, or null for all"
        )
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted])


def afford(stored: Stored, fraction: float, labels_per_class: int | None, seed: int) -> Stored:
    """What a budget of labels leaves of a split: a share of each class, or so many of each."""
    if not 0 < fraction <= 1:
        raise MisconfigurationException(f"fraction: {fraction} is no share of the images: give one in (0, 1]")
    classes = stored.classes()
    if labels_per_class is not None:
        known = len(np.unique(classes[classes >= 0]))
        if (
            stored.labels is None
            or stored.labels.ndim == 2
            or not known
            or labels_per_class < 1
            or fraction < 1
        ):
            raise MisconfigurationException(
                f"labels_per_class: {labels_per_class} needs training images with classes, a number from 1, "
                "and no fraction beside it"
            )
        return stored.take(carve(classes, labels_per_class * known, seed, "labels_per_class")[1])
    return stored.take(carve(classes, fraction, seed)[1]) if fraction < 1 else stored


def divide(
    arrays: dict[str, Stored],
    val_size: float,
    seed: int,
    unlabeled: int | None = None,
    fraction: float = 1.0,
    labels_per_class: int | None = None,
) -> dict[str, RowsDataset]:
    """The arrays of each split -> its rows.

    Without a `val` of its own, validation is carved from `train`; then `train` is cut to the budget of labels. Where
    there are `unlabeled` images, so many of them become `train`, and the labeled training images `bank`; rows that
    validation has, in one array with them, are left out.
    """
    arrays = dict(arrays)
    if "val" not in arrays and val_size:
        kept, carved = carve(arrays["train"].classes(), val_size, seed)
        if len(carved):
            arrays |= {"val": arrays["train"].take(carved), "train": arrays["train"].take(kept)}
    arrays["train"] = afford(arrays["train"], fraction, labels_per_class, seed)
    if "unlabeled" in arrays:
        stream, val = arrays.pop("unlabeled"), arrays.get("val")
        if val and val.images is stream.images:
            rows = np.arange(len(stream.images)) if stream.rows is None else stream.rows
            stream = stream._replace(rows=np.setdiff1d(rows, val.rows))
        count = len(stream.classes())
        arrays |= {"bank": arrays["train"], "train": stream.take(choose(count, unlabeled))}
    return {name: RowsDataset(*stored) for name, stored in arrays.items()}
