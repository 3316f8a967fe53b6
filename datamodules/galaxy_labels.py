"""What a CSV says about the images of a folder: a label and, where it has a column `split`, a split for each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.csv_targets import as_classes, read_columns, read_header
from datamodules.galaxy_tree import COLUMNS, TREE, largest_answer, likeliest_path, paths

SPLITS = ("train", "val", "test", "unlabeled")


@dataclass
class Solutions:
    """Of N rows of a file.

    Attributes:
        path: of the file.
        ids: names of the images.
        splits: one of `SPLITS` a row; None where the file has no such column.
        labels: int64 (N,), -1 where unknown, or float32 (N, T), NaN where unknown.
        class_names: in the order of the classes; None for numbers.
    """

    path: Path
    ids: list[str]
    splits: list[str] | None
    labels: np.ndarray
    class_names: list[str] | None

    def of(self, images: list[str], unreadable: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (M, ...) and splits (M,) of images, "" for those to leave out; says in a line how many they are."""
        row_of = {image: row for row, image in enumerate(self.ids)}
        places = [k for k, image in enumerate(images) if image in row_of and image not in unreadable]
        rows = [row_of[images[k]] for k in places]
        if not rows:
            raise MisconfigurationException(
                f"{self.path.absolute()}: none of its {len(self.ids)} ids, such as {self.ids[:1]}, is the name of one "
                f"of {len(images)} images, such as {images[:1]}: set id_column to the column of the names"
            )
        labels = np.full((len(images), *self.labels.shape[1:]), np.nan if self.class_names is None else -1)
        labels = labels.astype(self.labels.dtype)
        labels[places] = self.labels[rows]
        splits = np.full(len(images), "", dtype="<U9")
        splits[places] = "train" if self.splits is None else np.array(self.splits)[rows]
        left_out = {
            "images that cannot be decoded": len(unreadable),
            "images without a row": len(set(images) - row_of.keys()),
            "rows without an image": len(row_of.keys() - set(images)),
        }
        if any(left_out.values()):
            counts = ", ".join(f"{what}: {count}" for what, count in left_out.items() if count)
            rank_zero_info(f"{self.path}: {len(rows)} images with a row; left out are {counts}")
        return labels, splits


def read_solutions(path: Path, id_column: str, target: str, target_columns: list[str] | None) -> Solutions:
    """
    Args:
        target: `regression`, `class`, `path` or `question N`, see `GalaxyZoo`.
        target_columns: the 37 vote fractions if None.

    Raises:
        MisconfigurationException: the file does not parse, names a split or a column that there is not, or an id twice.
    """
    own, read = [id_column, *{"split"}.intersection(read_header(path))], target_columns or COLUMNS
    columns = read_columns(path, own + read, []) if target == "class" else read_columns(path, own, read)
    ids, splits = columns.text[id_column], columns.text.get("split")
    seen = set()
    for line, image, split in zip(columns.lines, ids, splits or ["train"] * len(ids), strict=True):
        if image in seen:
            raise MisconfigurationException(
                f"{path.absolute()}, line {line}: {id_column} {image} is there twice"
            )
        if split not in SPLITS:
            raise MisconfigurationException(
                f"{path.absolute()}, line {line}: split {split!r} is none of {', '.join(SPLITS)}"
            )
        seen.add(image)
    if target == "class":
        return Solutions(path, ids, splits, *as_classes(columns.text[read[0]]))
    return Solutions(path, ids, splits, *as_labels(columns.numbers, target))


def as_labels(numbers: np.ndarray, target: str) -> tuple[np.ndarray, list[str] | None]:
    """Numbers (N, T) -> labels and what classes are called, if `target` asks for classes."""
    if target == "regression":
        return numbers, None
    if target == "path":
        every, chosen = paths(), likeliest_path(numbers)
        taken, counts = np.unique(chosen[chosen >= 0], return_counts=True)
        taken = taken[np.argsort(-counts, kind="stable")]
        class_of = np.full(len(every) + 1, -1)  # the last one for unknown paths, -1
        class_of[taken] = np.arange(len(taken))
        return class_of[chosen], [", ".join(every[path]) for path in taken]
    question = int(target.removeprefix("question "))
    return largest_answer(numbers, question), list(TREE[question])
