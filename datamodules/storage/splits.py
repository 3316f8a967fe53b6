"""The rows of arrays that make up each split, chosen by seeds of their own and never by the run's."""

from typing import NamedTuple

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.loading.loader import RowsDataset


class ArraySplit(NamedTuple):
    """The rows of arrays that make up a split.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: of all N, int64 (N,) or float32 (N, T); None where there are none.
        rows: positions (n,) of the split's rows; all N if None.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None

    def select_rows(self, positions: np.ndarray) -> "ArraySplit":
        """Return the split of the rows at some positions among its rows."""
        return self._replace(rows=positions if self.rows is None else self.rows[positions])

    def row_classes(self) -> np.ndarray:
        """Class of each row, int64 (n,), -1 where unknown; where there are no classes, all rows have the same one."""
        rows = np.arange(len(self.images)) if self.rows is None else self.rows
        if self.labels is None or self.labels.ndim == 2:
            return np.zeros(len(rows), np.int64)
        return self.labels[rows]


def stratified_split(
    labels: np.ndarray, size: float, seed: int, option: str = "val_size"
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, class by class: (rows that stay, rows that are held out), both ascending.

    The result depends on labels, size and seed alone. What a smaller size holds out is part of what a larger one does.

    Args:
        labels: classes (N,), -1 where unknown.
        size: below 1 the fraction of each class, and of the unknown, that is held out; from 1 a number of rows, as many
            of each class.
        option: the name of the size in the config.

    Raises:
        MisconfigurationException: a class has fewer rows.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    orders = [rng.permutation(np.flatnonzero(labels == k)) for k in classes]
    if size < 1:
        counts = [round(size * len(order)) for order in orders]
    else:
        is_class = classes >= 0
        per_class, remainder = divmod(int(size), max(1, is_class.sum()))
        counts = np.where(is_class, per_class + (np.cumsum(is_class) <= remainder), 0)
    for k, order, count in zip(classes, orders, counts, strict=True):
        if not 0 <= count <= len(order):
            raise MisconfigurationException(
                f"{option} asks for {count} images of class {k}, and {len(order)} are there: ask for fewer"
            )
    held_out = np.sort(np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def subsample_rows(count: int, size: int | None) -> np.ndarray:
    """Pick `size` of `count` rows, ascending, always the same and part of every larger sample; all if None."""
    if size is not None and not 0 < size <= count:
        raise MisconfigurationException(
            f"unlabeled: {size} of {count} unlabeled images: give a number up to {count}, or null for all"
        )
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def limit_labels(split: ArraySplit, fraction: float, labels_per_class: int | None, seed: int) -> ArraySplit:
    """Keep a fraction of each class of a split, or a number of rows of each class."""
    if not 0 < fraction <= 1:
        raise MisconfigurationException(f"fraction: {fraction} is no share of the images: give one in (0, 1]")
    classes = split.row_classes()
    if labels_per_class is not None:
        has_classes = split.labels is not None and split.labels.ndim == 1
        num_classes = len(np.unique(classes[classes >= 0]))
        if not has_classes or not num_classes or labels_per_class < 1 or fraction < 1:
            raise MisconfigurationException(
                f"labels_per_class: {labels_per_class} needs training images with classes, a number from 1, "
                "and no fraction beside it"
            )
        return split.select_rows(
            stratified_split(classes, labels_per_class * num_classes, seed, "labels_per_class")[1]
        )
    return split.select_rows(stratified_split(classes, fraction, seed)[1]) if fraction < 1 else split


def make_splits(
    arrays: dict[str, ArraySplit],
    val_size: float,
    seed: int,
    unlabeled: int | None = None,
    fraction: float = 1.0,
    labels_per_class: int | None = None,
) -> dict[str, RowsDataset]:
    """Make the data set of each split from the arrays that there are.

    Without a `val` of its own, validation is held out of `train`; then `train` is cut to the budget of labels. Where
    there are `unlabeled` images, that many of them become `train`, and the labeled training images `bank`; rows that
    validation has, in one array with them, are left out.
    """
    arrays = dict(arrays)
    if "val" not in arrays and val_size:
        train_rows, val_rows = stratified_split(arrays["train"].row_classes(), val_size, seed)
        if len(val_rows):
            arrays |= {
                "val": arrays["train"].select_rows(val_rows),
                "train": arrays["train"].select_rows(train_rows),
            }
    arrays["train"] = limit_labels(arrays["train"], fraction, labels_per_class, seed)
    if "unlabeled" in arrays:
        stream, val = arrays.pop("unlabeled"), arrays.get("val")
        if val and val.images is stream.images:
            rows = np.arange(len(stream.images)) if stream.rows is None else stream.rows
            stream = stream._replace(rows=np.setdiff1d(rows, val.rows))
        count = len(stream.row_classes())
        arrays |= {"bank": arrays["train"], "train": stream.select_rows(subsample_rows(count, unlabeled))}
    return {name: RowsDataset(*split) for name, split in arrays.items()}
