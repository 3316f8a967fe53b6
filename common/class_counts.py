"""How evenly classes are distributed, by the counts of their examples."""

from collections.abc import Iterable, Sequence

UNEVEN = 0.05  # a split is uneven where its largest class has more than this above an even share


def count_classes(labels: Iterable[int], num_classes: int) -> list[int]:
    """Count the examples of each class; those without a label (-1) are left out."""
    counts = [0] * num_classes
    for label in labels:
        if label >= 0:
            counts[label] += 1
    return counts


def majority_share(counts: Sequence[int]) -> float:
    """Return the share of the largest class, which is the accuracy of always naming it; 0 without any example."""
    return max(counts, default=0) / max(sum(counts), 1)


def is_uneven(counts: Sequence[int]) -> bool:
    """Whether always naming the largest class is right more than 5 points above 1 / classes."""
    return len(counts) > 1 and majority_share(counts) > 1 / len(counts) + UNEVEN
