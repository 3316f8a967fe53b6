"""The rows of arrays that make up each split, chosen by seeds of their own and never by the run's."""

from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.loading.loader import RowsDataset
from datamodules.storage.stratified import describe_held_out, stratified_split

TEST_SEED = 0  # of test splits, which no option changes


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


def subsample_rows(count: int, size: int | None) -> np.ndarray:
    """Pick `size` of `count` rows, ascending, always the same and part of every larger sample; all if None."""
    if size is not None and size > count:
        raise MisconfigurationException(
            f"unlabeled: {size} of {count} unlabeled images: give a number up to {count}, or null for all"
        )
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def limit_labels(split: ArraySplit, fraction: float, labels_per_class: int | None, seed: int) -> ArraySplit:
    """Keep a fraction of each class of a split, or a number of rows of each class."""
    classes = split.row_classes()
    if labels_per_class is not None:
        has_classes = split.labels is not None and split.labels.ndim == 1
        num_classes = len(np.unique(classes[classes >= 0]))
        if not has_classes or not num_classes or fraction < 1:
            raise MisconfigurationException(
                f"labels_per_class: {labels_per_class} needs training images with classes, "
                "and no fraction beside it"
            )
        return split.select_rows(
            stratified_split(classes, labels_per_class * num_classes, seed, "labels_per_class")[1]
        )
    return split.select_rows(stratified_split(classes, fraction, seed)[1]) if fraction < 1 else split


def hold_out_split(
    splits: dict[str, Any],
    split: str,
    classes: np.ndarray,
    size: float,
    seed: int,
    class_names: list[str] | None = None,
) -> dict[str, Any]:
    """Hold a split out of `train`, of which each class keeps an example; say where that is not as asked for.

    Args:
        splits: with `select_rows`, images or texts.
        classes: of the examples of `train` (N,), -1 where unknown.
    """
    option = f"{split}_size"
    train_rows, held_out = stratified_split(classes, size, seed, option, stay=1)
    note = describe_held_out(classes, held_out, size, option, class_names)
    if note:
        rank_zero_info(note)
    if not len(held_out):
        return splits
    rows = {"train": train_rows, split: held_out}
    return splits | {name: splits["train"].select_rows(rows[name]) for name in rows}


def make_splits(
    arrays: dict[str, ArraySplit],
    val_size: float,
    seed: int,
    unlabeled: int | None = None,
    fraction: float = 1.0,
    labels_per_class: int | None = None,
    class_names: list[str] | None = None,
) -> dict[str, RowsDataset]:
    """Make the data set of each split from the arrays that there are.

    Without a `val` of its own, validation is held out of `train`; then `train` is cut to the budget of labels. Where
    there are `unlabeled` images, that many of them become `train`, and the labeled training images `bank`; rows that
    validation or test has, in one array with them, are left out.
    """
    if "val" not in arrays and val_size:
        classes = arrays["train"].row_classes()
        arrays = hold_out_split(arrays, "val", classes, val_size, seed, class_names)
    arrays = arrays | {"train": limit_labels(arrays["train"], fraction, labels_per_class, seed)}
    if "unlabeled" in arrays:
        stream = arrays.pop("unlabeled")
        for split in (arrays[name] for name in ("val", "test") if name in arrays):
            if split.images is stream.images and split.rows is not None:
                rows = np.arange(len(stream.images)) if stream.rows is None else stream.rows
                stream = stream._replace(rows=np.setdiff1d(rows, split.rows))
        count = len(stream.row_classes())
        arrays |= {"bank": arrays["train"], "train": stream.select_rows(subsample_rows(count, unlabeled))}
    return {name: RowsDataset(*split) for name, split in arrays.items()}
