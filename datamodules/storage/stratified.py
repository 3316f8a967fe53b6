"""Rows held out class by class, by a seed of their own."""

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

TOLERANCE = 0.2  # of the rows asked for in all; what rounding class by class may be off


def stratified_split(
    labels: np.ndarray, size: float, seed: int, option: str = "val_size", stay: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, class by class: (rows that stay, rows that are held out), both ascending.

    The result depends on labels, size and seed alone. What a smaller size holds out is part of what a larger one does.

    Args:
        labels: classes (N,), -1 where unknown.
        size: below 1 the fraction of each class, and of the unknown, that is held out, and at least one row of each
            class that has more than `stay`; from 1 a number of rows, as many of each class.
        option: the name of the size in the config.
        stay: how many rows of each class are never held out.

    Raises:
        MisconfigurationException: a class has fewer rows.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    orders = [rng.permutation(np.flatnonzero(labels == k)) for k in classes]
    rows, is_class = np.array([len(order) for order in orders]), classes >= 0
    stays = np.where(is_class, stay, 0)
    if size < 1:
        counts = apportion_rows(rows, size)
        if size > 0:
            most = np.maximum(rows - stays, 0)
            counts = np.clip(counts, np.where(is_class, np.minimum(1, most), 0), most)
    else:
        per_class, remainder = divmod(int(size), max(1, is_class.sum()))
        counts = np.where(is_class, per_class + (np.cumsum(is_class) <= remainder), 0)
    for k, count, there, kept in zip(classes, counts, rows, stays, strict=True):
        if not 0 <= count <= max(0, there - kept):
            reason = f", {kept} of which stays for training" if count == there else ""
            raise MisconfigurationException(
                f"{option} asks for {count} images of class {k}, and {there} are there{reason}: ask for fewer"
            )
    held_out = np.sort(np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def apportion_rows(rows: np.ndarray, share: float) -> np.ndarray:
    """Take a share of each of K classes with so many rows (K,), rounded class by class: counts int64 (K,).

    In many small classes all are rounded to the same side. What that is off in all by more than `TOLERANCE` is dealt
    out by Webster's method, which rounds shares that are a little larger, or smaller, for all.
    """
    counts, exact = np.rint(share * rows).astype(np.int64), share * rows.sum()
    if share <= 0:
        return counts
    total = int(np.clip(counts.sum(), round((1 - TOLERANCE) * exact), round((1 + TOLERANCE) * exact)))
    for _ in range(total - counts.sum()):
        counts[np.argmax(rows / (2 * counts + 1))] += 1
    for _ in range(counts.sum() - total):
        last = len(rows) - 1 - np.argmin((rows / np.maximum(2 * counts - 1, 1e-9))[::-1])
        counts[last] -= 1
    return counts


def describe_held_out(
    labels: np.ndarray, held_out: np.ndarray, size: float, option: str, class_names: list[str] | None = None
) -> str:
    """Say which classes have no row held out, and how many rows are where that is far from what was asked for.

    Args:
        labels: classes (N,), -1 where unknown.
        held_out: positions of the rows held out.
    """
    notes, classes = [], np.unique(labels[labels >= 0])
    asked = size * len(labels)
    if size < 1 and abs(len(held_out) - asked) > max(1, TOLERANCE * asked):
        notes.append(f"{len(held_out):,} of {len(labels):,} examples, since each class gives whole ones")
    without = np.setdiff1d(classes, labels[held_out])
    if len(without) and len(held_out):
        names = [class_names[k] if class_names else str(k) for k in without[:5]]
        some = ", ".join(names) + (", ..." if len(without) > 5 else "")
        notes.append(f"{len(without):,} of {len(classes):,} classes have none: {some}")
    return f"{option} {size:g}: {'; '.join(notes)}" if notes else ""
