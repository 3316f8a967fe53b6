"""Labels of the images of a folder from a CSV and, where it has a column `split`, their splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.storage.csv_targets import Columns, parse_classes, read_columns, read_header
from datamodules.storage.galaxy_tree import COLUMNS, TREE, largest_answer, likeliest_path, list_paths

SPLITS = ("train", "val", "test", "unlabeled")


@dataclass
class Solutions:
    """The N rows of a file.

    Attributes:
        path: the file.
        ids: the names of the images.
        splits: one of `SPLITS` a row; None where the file has no such column.
        labels: int64 (N,), -1 where unknown, or float32 (N, T), NaN where unknown.
        class_names: in the order of the classes; None for numbers.
    """

    path: Path
    ids: list[str]
    splits: list[str] | None
    labels: np.ndarray
    class_names: list[str] | None

    def match_images(self, images: list[str], unreadable: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Find labels (M, ...) and splits (M,) of images, "" for those without a row; say how many they are."""
        row_of = {image: row for row, image in enumerate(self.ids)}
        places = [k for k, image in enumerate(images) if image in row_of]
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
            "images without a row": len(images) - len(rows),
            "rows without an image": len(row_of.keys() - set(images) - unreadable.keys()),
        }
        if any(left_out.values()):
            counts = ", ".join(f"{kind}: {count}" for kind, count in left_out.items() if count)
            rank_zero_info(f"{self.path}: {len(rows)} images with a row; left out are {counts}")
        return labels, splits


def read_solutions(
    path: Path, id_column: str, target: str, target_columns: list[str] | None, min_examples: int
) -> Solutions:
    """Read the labels and splits of a CSV.

    Args:
        target: `regression`, `class`, `path` or `question N`, see `GalaxyZoo`, also for `min_examples`.
        target_columns: the 37 vote fractions if None.

    Raises:
        MisconfigurationException: the file does not parse, names a split or a column that there is not, or an id twice,
            or no path has enough galaxies.
    """
    names, targets = [id_column, *{"split"}.intersection(read_header(path))], target_columns or COLUMNS
    text, numbers = (names + targets, []) if target == "class" else (names, targets)
    columns = read_columns(path, text, numbers)
    ids, splits = columns.text[id_column], columns.text.get("split")
    check_ids(path, id_column, ids, splits, columns.lines)
    if target == "class":
        labels, class_names = parse_classes(columns.text[targets[0]])
        check_class_names(path, targets[0], class_names)
        return Solutions(path, ids, splits, labels, class_names)
    if target_columns is None:
        check_fractions(path, columns)
    if target == "regression":
        return Solutions(path, ids, splits, columns.numbers, None)
    if target == "path":
        labels, class_names = frequent_paths(columns.numbers, min_examples)
        if not class_names:
            raise MisconfigurationException(
                f"{path.absolute()}: target path, and no path is that of {min_examples} galaxies: lower min_examples"
            )
        return Solutions(path, ids, splits, labels, class_names)
    question = int(target.removeprefix("question "))
    return Solutions(path, ids, splits, largest_answer(columns.numbers, question), list(TREE[question]))


def check_ids(path: Path, id_column: str, ids: list[str], splits: list[str] | None, lines: list[int]) -> None:
    """Raise where an id is there twice, or a split is unknown."""
    earlier_ids = set()
    for line, image, split in zip(lines, ids, splits or ["train"] * len(ids), strict=True):
        if image in earlier_ids:
            raise MisconfigurationException(
                f"{path.absolute()}, line {line}: {id_column} {image} is there twice"
            )
        if split not in SPLITS:
            raise MisconfigurationException(
                f"{path.absolute()}, line {line}: split {split!r} is none of {', '.join(SPLITS)}"
            )
        earlier_ids.add(image)


def check_class_names(path: Path, column: str, class_names: list[str]) -> None:
    """Raise where the classes of a column are numbers, and one of them is not whole."""
    try:
        numbers = [float(name) for name in class_names]
    except ValueError:
        return
    fractions = [name for name, number in zip(class_names, numbers, strict=True) if not number.is_integer()]
    if fractions:
        raise MisconfigurationException(
            f"{path.absolute()}: target class, and column {column} holds numbers such as {fractions[0]}, which would "
            f"be {len(class_names)} classes: set target to regression"
        )


def check_fractions(path: Path, columns: Columns) -> None:
    """Raise where a vote fraction lies outside [0, 1]."""
    invalid = np.argwhere((columns.numbers < -1e-4) | (columns.numbers > 1 + 1e-4))
    if len(invalid):
        row, column = invalid[0]
        raise MisconfigurationException(
            f"{path.absolute()}, line {columns.lines[row]}: {COLUMNS[column]} is {columns.numbers[row, column]:g}, "
            "a vote fraction lies in [0, 1]: put it right, or name your own target_columns"
        )


def frequent_paths(fractions: np.ndarray, min_examples: int) -> tuple[np.ndarray, list[str]]:
    """Turn vote fractions (N, 37) into likeliest paths as classes (N,), the most frequent first, and their names.

    -1 where the path is unknown, or that of fewer than `min_examples` galaxies.
    """
    paths, galaxy_paths = list_paths(), likeliest_path(fractions)
    frequent, counts = np.unique(galaxy_paths[galaxy_paths >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    frequent = frequent[order][counts[order] >= min_examples]
    class_of = np.full(len(paths) + 1, -1)  # the last one for unknown paths, -1
    class_of[frequent] = np.arange(len(frequent))
    return class_of[galaxy_paths], [", ".join(paths[path]) for path in frequent]
