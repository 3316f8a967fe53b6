"""Classes merged into groups by name: `{animals: [bird, cat], vehicles: [car, truck]}`."""

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.hints import nearest_hint
from datamodules.storage.splits import ArraySplit

Groups = dict[str, list[str | int]]  # a class called 7 is a number in YAML


def map_classes_to_groups(names: list[str] | None, groups: Groups) -> np.ndarray:
    """Find the group of each class, int64 (K + 1,): -1 for a class in none, and at the end for an unknown label.

    Raises:
        MisconfigurationException: no classes, no such class, or one that is named twice.
    """
    if not names:
        raise MisconfigurationException("groups: the labels are no classes: leave groups out")
    group_of = np.full(len(names) + 1, -1)
    for place, (group, members) in enumerate(groups.items()):
        if not members:
            raise MisconfigurationException(f"groups: {group} is empty: name its classes")
        for name in map(str, members):
            if name not in names:
                hint = nearest_hint(name, names) or f"; there are {', '.join(names)}"
                raise MisconfigurationException(f"groups: {group}: there is no class {name!r}{hint}")
            if group_of[names.index(name)] >= 0:
                raise MisconfigurationException(f"groups: class {name!r} is named twice: name it once")
            group_of[names.index(name)] = place
    return group_of


def merge_classes(
    arrays: dict[str, ArraySplit], names: list[str] | None, groups: Groups
) -> dict[str, ArraySplit]:
    """Replace labels by groups, and leave out rows of no group or unknown label; no labels, no change."""
    group_of, merged = map_classes_to_groups(names, groups), {}
    for name, split in arrays.items():
        if split.labels is not None:
            split = split._replace(labels=group_of[split.labels])
            split = split.select_rows(np.flatnonzero(split.row_classes() >= 0))
        if len(split.row_classes()):
            merged[name] = split
    if "train" not in merged:
        raise MisconfigurationException(f"groups: no training image is of {', '.join(groups)}")
    return merged
