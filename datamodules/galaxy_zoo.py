"""Galaxy Zoo: galaxies of the Sloan survey as JPGs, and what volunteers said about them in a CSV.

Kaggle's Galaxy Zoo challenge, 61,578 training images of 424x424, made of Galaxy Zoo 2: Willett et al. 2013,
https://arxiv.org/abs/1308.3496. Any folder of JPGs with a CSV of targets is read alike.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import ImageDataModule
from datamodules.galaxy_labels import SPLITS, Solutions, read_solutions
from datamodules.jpeg_folder import contents, pack
from datamodules.layout import read_images
from datamodules.loader import RowsDataset
from datamodules.splits import carve, choose

Target = Literal[
    *("regression", "class", "path", "question 1", "question 2", "question 3", "question 4", "question 5"),
    *("question 6", "question 7", "question 8", "question 9", "question 10", "question 11"),
]


class GalaxyZoo(ImageDataModule):
    """JPGs, decoded once into an array of `stored` x `stored` pixels beside their folder; labels from a CSV.

    Splits are those of the CSV's column `split` (train, val, test, unlabeled); where there is none, they are carved.
    `train_on: unlabeled` trains on the images of train and unlabeled, without their labels.

    Args:
        name: subfolder of `data_dir` that holds the next two.
        images: folder of JPGs called by their ids, `ID.jpg`.
        solutions: CSV file with a header and a row an image.
        id_column: its column of ids.
        target: `regression`: the numbers in `target_columns`; `class`: what a single one of them says; `path`: the most
            probable path through the decision tree (those that some galaxy takes are the classes, the most frequent
            first); `question 1` ... `question 11`: the answer with most votes. Unknown: an empty cell, the class -1.
        target_columns: the 37 vote fractions if None.
        crop: side in pixels of the central square of a JPG that is kept; all of a smaller one.
        stored: side in pixels to which it is resized.
        test_size: share of the images carved as the test split, the same whatever the seeds and targets.
        skip_corrupt: leave out JPGs that cannot be decoded, and say how many.
    """

    how_to_get: ClassVar[str] = (
        "unpack images_training_rev1.zip and training_solutions_rev1.zip of "
        "https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge there, or name other files by "
        "--data.init_args.images and solutions"
    )

    def __init__(
        self,
        name: str = "galaxyzoo",
        images: str = "images_training_rev1",
        solutions: str = "training_solutions_rev1.csv",
        id_column: str = "GalaxyID",
        target: Target = "regression",
        target_columns: list[str] | None = None,
        crop: int = 256,
        stored: int = 64,
        test_size: float = 0.1,
        skip_corrupt: bool = False,
        **shared,
    ):
        super().__init__(name=name, **shared)
        self.source, self.csv = self.folder / images, self.folder / solutions
        self.packed = self.folder / f"{images}_{crop}to{stored}.npy"
        self.id_column, self.target, self.target_columns = id_column, target, target_columns
        self.crop, self.stored, self.test_size, self.skip_corrupt = crop, stored, test_size, skip_corrupt
        if target == "class" and len(target_columns or ()) != 1:
            raise MisconfigurationException(
                "GalaxyZoo: target class needs target_columns with a single column"
            )
        if target not in ("class", "regression") and target_columns:
            raise MisconfigurationException(
                f"GalaxyZoo: target {target} reads the 37 vote fractions: leave target_columns out"
            )

    @cached_property
    def solutions(self) -> Solutions:
        """Read when first asked for: a model's head may need the number of classes before `setup`."""
        if not self.csv.is_file():
            raise self.missing(self.csv)
        return read_solutions(self.csv, self.id_column, self.target, self.target_columns)

    @property
    def class_names(self) -> list[str] | None:
        return self.solutions.class_names

    @property
    def num_classes(self) -> int | None:
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_outputs(self) -> int:
        labels = self.solutions.labels
        return labels.shape[1] if self.class_names is None else self.num_classes

    def prepare_data(self) -> None:
        if not self.source.is_dir() and not self.packed.is_file():
            raise self.missing(self.source)
        pack(self.source, self.packed, self.crop, self.stored, self.skip_corrupt)

    def missing(self, path: Path) -> MisconfigurationException:
        return MisconfigurationException(
            f"no Galaxy Zoo at {path.absolute()}: {self.how_to_get}, or point --data.init_args.data_dir to where it is"
        )

    def setup(self, stage: str) -> None:
        if self.datasets:
            return
        images, about = read_images(self.packed), contents(self.packed)
        self.check({source: (images, None) for source in self.sources})
        labels, splits = self.solutions.of(about["ids"], about["unreadable"])
        rows = self.rows(labels, splits)
        free = np.union1d(rows["train"], rows.pop("unlabeled"))
        self.datasets = {name: RowsDataset(images, labels, part) for name, part in rows.items() if len(part)}
        if "unlabeled" in self.sources:
            self.datasets["bank"] = self.datasets["train"]
            self.datasets["train"] = RowsDataset(images, rows=free[choose(len(free), self.unlabeled)])

    def rows(self, labels: np.ndarray, splits: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of the images of each split; test and validation are carved where the CSV has none."""
        rows = {name: np.flatnonzero(splits == name) for name in SPLITS}
        if self.solutions.splits is None:
            kept, test = carve(np.zeros(len(rows["train"])), self.test_size, seed=0)
            rows |= {"train": rows["train"][kept], "test": rows["train"][test]}
        if not len(rows["val"]):
            train = rows["train"]
            kept, val = carve(
                labels[train] if labels.ndim == 1 else np.zeros(len(train)), self.val_size, self.split_seed
            )
            rows |= {"train": train[kept], "val": train[val]}
        return rows
