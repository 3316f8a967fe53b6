"""How many examples of each class the splits have, said where classes are uneven or one is missing."""

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from common.class_counts import count_classes, is_uneven
from common.splits import SPLITS

MOST_CLASSES = 20  # that a line names


def count_splits(data: LightningDataModule) -> dict[str, list[int]]:
    """Split -> examples of each class, of the splits with labels; `bank`, where it is no part of train, included."""
    if data.task != "classification":
        return {}
    counts = {
        name: count_classes(split.labels.tolist(), data.num_classes) for name, split in data.datasets.items()
    }
    return {name: of_class for name, of_class in counts.items() if sum(of_class)}


def list_missing(counts: dict[str, list[int]]) -> list[int]:
    """The classes without a validation example, where validation has examples of others."""
    return [k for k, count in enumerate(counts.get("val", [])) if not count]


def find_uneven_counts(data: LightningDataModule) -> dict[str, list[int]]:
    """The counts of all splits where one is uneven or validation lacks a class; else nothing."""
    counts = count_splits(data)
    return counts if list_missing(counts) or any(map(is_uneven, counts.values())) else {}


def report_class_counts(data: LightningDataModule) -> None:
    """Say in a line what `find_uneven_counts` finds, and warn of classes without a validation example."""
    counts = find_uneven_counts(data)
    names = data.class_names or [str(k) for k in range(data.num_classes or 0)]
    if any(map(is_uneven, counts.values())):
        parts = [
            f"{SPLITS.get(split, split)} {format_counts(of_class, names)}"
            for split, of_class in counts.items()
        ]
        rank_zero_info(f"classes are uneven: {'; '.join(parts)}")
    if missing := list_missing(counts):
        missing_names = format_class_names([names[k] for k in missing])
        rank_zero_warn(
            f"no validation example of {missing_names}: what is measured on validation says nothing of it"
        )


def format_counts(counts: list[int], names: list[str]) -> str:
    """'300 smooth, 100 spiral', the largest class first."""
    order = sorted(range(len(counts)), key=lambda k: -counts[k])
    return format_class_names([f"{counts[k]:,} {names[k]}" for k in order])


def format_class_names(names: list[str]) -> str:
    """Names with commas, of many the first ones."""
    more = f" and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    return ", ".join(map(str, names[:MOST_CLASSES])) + more
