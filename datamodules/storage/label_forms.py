"""Labels in forms that would be read as something else: what they look like, and what to write instead."""

import numpy as np


def list_values(values: np.ndarray) -> str:
    """Write sorted different numbers (K,): '1 ... 10' where none is missing, else '0, 10, 20, ... 90'."""
    values = values.astype(int).tolist()
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} ... {values[-1]}"
    some = values if len(values) <= 4 else [*values[:3], f"... {values[-1]}"]
    return ", ".join(map(str, some))


def is_one_hot(labels: np.ndarray) -> bool:
    """Check whether each row of (N, T) has one number in one place and another number in all others.

    Rows with an unknown number, NaN, are left out.
    """
    if labels.ndim != 2 or labels.shape[1] < 2 or not len(labels):
        return False
    labeled = labels[~np.isnan(labels).any(1)]
    if not len(labeled) or labeled.min() == labeled.max():
        return False
    high = labeled == labeled.max()
    return bool((high.sum(1) == 1).all() and (high | (labeled == labeled.min())).all())


def find_whole_numbers(labels: np.ndarray) -> np.ndarray | None:
    """Find the different numbers (K,) among the known ones, sorted; None where one is not whole, or all differ."""
    labeled = labels[~np.isnan(labels)]
    if not np.isfinite(labeled).all() or (labeled != np.round(labeled)).any():
        return None
    values = np.unique(labeled)
    return values if len(values) <= len(labeled) / 2 else None


def suggest_form(labels: np.ndarray) -> str:
    """Say what labels of any shape and type look like, and what to write; '' where they look like nothing known."""
    if labels.dtype.kind in "US":
        return "they look like names: write np.unique(labels, return_inverse=True)[1], and the names in classes.txt"
    if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        return ""
    numbers = labels.astype(np.float64)
    if is_one_hot(numbers):
        return f"they look like one-hot rows of {labels.shape[1]} classes: write labels.argmax(1), int64 (N,)"
    if labels.ndim == 2 and labels.shape[1] > 1:
        return ""
    values = find_whole_numbers(numbers)
    if values is None or not len(values):
        write = "labels" if labels.ndim == 2 else "labels[:, None]"
        return f"they look like one number an image: write {write}, (N, 1)"
    write = "labels[:, 0]" if labels.ndim == 2 else "labels"
    write = f"np.nan_to_num({write}, nan=-1)" if np.isnan(numbers).any() else write
    return f"they look like the classes {list_values(values)}: write {write}.astype('int64'), (N,)"


def looks_like_classes(targets: np.ndarray) -> bool:
    """Check whether numbers (N, T) look like classes: one-hot rows, or a single column that counts from 0 or 1."""
    if targets.shape[1] > 1:
        return is_one_hot(targets)
    values = find_whole_numbers(targets)
    counts = values is not None and len(values) > 1 and values[0] in (0, 1)
    return bool(counts and values[-1] - values[0] == len(values) - 1)


def explain_gaps(labels: np.ndarray) -> str | None:
    """Say how classes (N,), -1 where unknown, do not count 0 ... K - 1 without a gap, and what to write."""
    values = np.unique(labels[labels >= 0])
    if not len(values) or values[-1] == len(values) - 1:
        return None
    shift = values[0] > 0 and values[-1] - values[0] == len(values) - 1
    write = f"labels - {values[0]}" if shift else "np.searchsorted(np.unique(train_labels), labels)"
    return (
        f"the {len(values)} different labels are {list_values(values)}, which would be read as {values[-1] + 1} "
        f"classes: classes count 0 ... K - 1 (-1 where unknown), so write {write} in every split, or name "
        f"all {values[-1] + 1} in classes.txt"
    )
