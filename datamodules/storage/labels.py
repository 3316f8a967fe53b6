"""Stored labels, which are classes or numbers, and the names of these."""

from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.storage.label_forms import explain_gaps, looks_like_classes, suggest_form
from datamodules.storage.layout import open_array
from datamodules.storage.splits import ArraySplit


def read_labels(path: Path, count: int) -> np.ndarray:
    """Read the class of each image, int64 (N,), -1 where unknown; or numbers, float32 (N, T), NaN where unknown."""
    labels = open_array(path)
    classes = np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1
    if not classes and not (np.issubdtype(labels.dtype, np.floating) and labels.ndim == 2 and labels.size):
        suggestion = suggest_form(labels)
        raise MisconfigurationException(
            f"{path}: expected labels as int64 (N,), or as float32 (N, T), found {labels.dtype} {labels.shape}"
            f"{suggestion and '; '}{suggestion}"
        )
    if len(labels) != count:
        raise MisconfigurationException(f"{path}: {len(labels)} labels for {count} images")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        return labels.astype(np.int64 if classes else np.float32)


def read_names(path: Path) -> list[str] | None:
    """Read the names of classes or targets, one a line; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MisconfigurationException(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    names = text.removesuffix("\n").split("\n")
    for line, name in enumerate(names, start=1):
        if not name.strip() or name in names[: line - 1]:
            reason = f"{name!r} is there twice" if name.strip() else "there is no name"
            raise MisconfigurationException(f"{path}, line {line}: {reason}: write one name a line")
    return names


def name_labels(
    arrays: dict[str, ArraySplit],
    folder: Path,
    class_names: list[str] | None,
    num_classes: int | None,
    target_names: list[str] | None,
) -> tuple[list[str] | None, list[str] | None]:
    """Name classes and targets: as given, else as classes.txt or targets.txt say, else by numbers.

    The labels are those of train or else of another split.

    Returns:
        Names of classes and of targets; None for the kind that the labels are not of.

    Raises:
        MisconfigurationException: without names, numbers look like classes, or classes do not count 0 ... K - 1.
    """
    labels_of_splits = [arrays[split].labels for split in ("train", "val", "test") if split in arrays]
    labels_of_splits = [labels for labels in labels_of_splits if labels is not None]
    labels = labels_of_splits[0] if labels_of_splits else None
    class_names = class_names or read_names(folder / "classes.txt")
    if labels is not None and labels.ndim == 2:
        names = target_names or read_names(folder / "targets.txt")
        if names is None and looks_like_classes(labels):
            raise MisconfigurationException(
                f"{folder}: the labels are float {labels.shape}, and {suggest_form(labels)}; or name the "
                f"{labels.shape[1]} numbers in targets.txt, if they are numbers to be predicted"
            )
        return class_names, names or [str(t) for t in range(labels.shape[1])]
    if labels is not None and not class_names and not num_classes:
        # other splits may have classes that train has none of
        below = [part[part <= labels.max()] for part in labels_of_splits if part.ndim == 1]
        gaps = explain_gaps(np.concatenate(below))
        if gaps:
            raise MisconfigurationException(f"{folder}: {gaps}")
    count = num_classes or (0 if labels is None else labels.max() + 1)
    return class_names or [str(k) for k in range(count)] or None, None


def check_labels(
    path: Path, labels: np.ndarray, classes: list[str] | None, targets: list[str] | None
) -> None:
    """Raise where labels are no classes, or not as many finite numbers as there are targets."""
    if (labels.ndim == 2) != bool(targets) or (labels.ndim == 2 and classes):
        kind = f"numbers {labels.shape}" if labels.ndim == 2 else "classes"
        expected = f"{len(classes)} classes" if classes else f"{len(targets or ())} numbers an image"
        raise MisconfigurationException(
            f"{path}: the labels are {kind}, expected are {expected}: classes are int64 (N,) and may have a "
            "classes.txt, numbers are float32 (N, T) and may have a targets.txt"
        )
    if targets:
        if labels.shape[1] != len(targets):
            raise MisconfigurationException(
                f"{path}: {labels.shape[1]} numbers an image, expected {len(targets)}: a line of targets.txt for each, "
                "and as many in every split"
            )
        invalid, allowed = np.isinf(labels), "finite, or NaN where unknown"
    else:
        last = len(classes or ()) - 1
        invalid, allowed = (labels < -1) | (labels > last), f"0 ... {last}, or -1 where unknown"
        if invalid.any() and (labels.min(), labels.max()) == (1, last + 1):
            allowed += "; these count from 1: write labels - 1"
    if invalid.any():
        first = tuple(np.argwhere(invalid)[0])
        raise MisconfigurationException(
            f"{path}: label {labels[first]} in row {first[0]} ({invalid.sum()} such labels): labels are {allowed}"
        )
