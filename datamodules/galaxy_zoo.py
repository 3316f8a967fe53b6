"""Galaxy Zoo: galaxies of the Sloan survey as JPGs, and the votes of volunteers about them in a CSV.

Kaggle's Galaxy Zoo challenge, 61,578 training images of 424x424, made of Galaxy Zoo 2: Willett et al. 2013,
https://arxiv.org/abs/1308.3496. Any folder of JPGs with a CSV of targets can be read.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.ranges import NonNegativeInt, PositiveInt, ShareBelowOne
from datamodules.images import ImageDataModule
from datamodules.storage.disk import missing_data_error, readable_disk_errors
from datamodules.storage.galaxy_labels import SPLITS, Solutions, read_solutions
from datamodules.storage.galaxy_tree import COLUMNS, TREE
from datamodules.storage.image_files import OnBadImage, pack_images, read_manifest
from datamodules.storage.image_listing import JPG, FileListing
from datamodules.storage.layout import read_images
from datamodules.storage.splits import TEST_SEED, ArraySplit
from datamodules.storage.stratified import stratified_split

Target = Literal[
    *("regression", "class", "path", "question 1", "question 2", "question 3", "question 4", "question 5"),
    *("question 6", "question 7", "question 8", "question 9", "question 10", "question 11"),
]


class GalaxyZoo(ImageDataModule):
    """JPGs, decoded once into an array of `stored` x `stored` pixels beside their folder; labels from a CSV.

    Splits are those of the CSV's column `split` (train, val, test, unlabeled); without it, test and validation are held
    out.
    `train_on: unlabeled` trains on the images of train and unlabeled, without their labels.

    Args:
        name: subfolder of `data_dir` that holds the next two.
        images: folder of JPGs called by their ids, `ID.jpg`.
        solutions: CSV file with a header and a row an image.
        id_column: its column of ids.
        target: `regression`: the numbers in `target_columns`; `class`: what a single one of them says; `path`: the most
            probable path through the decision tree (see `min_examples`; the most frequent first); `question 1` ...
            `question 11`: the answer with most votes. Unknown: an empty cell, the class -1.
        target_columns: the 37 vote fractions if None.
        min_examples: with `target: path`, paths that fewer galaxies take are no classes, and those galaxies unknown. Of
            the tree's 1,265 paths few have enough galaxies to learn, and to measure, by: 50 leave some five of each for
            validation and for test.
        crop: side in pixels of the central square of a JPG that is kept; all of a smaller one.
        stored: side in pixels to which it is resized.
        test_size: share of the images held out as the test split where the CSV names no splits, the same for all seeds
            and targets.
        on_bad_image: what to do about JPGs that cannot be decoded: `error` names them, `skip` leaves them out and says
            how many.
    """

    channels = 3
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
        min_examples: NonNegativeInt = 50,
        crop: PositiveInt = 256,
        stored: PositiveInt = 64,
        test_size: NonNegativeInt | ShareBelowOne = 0.1,
        on_bad_image: OnBadImage = "error",
        **shared,
    ):
        super().__init__(name=name, **shared)
        self.source, self.csv = self.folder / images, self.folder / solutions
        self.packed = self.folder / f"{images}_{crop}to{stored}.npy"
        self.id_column, self.target, self.target_columns = id_column, target, target_columns
        self.min_examples, self.held_out = min_examples, test_size
        self.crop, self.stored, self.on_bad_image = crop, stored, on_bad_image
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
        """The CSV's rows, read when first asked for: a model's head may need the number of classes before `setup`."""
        with readable_disk_errors(self.csv):
            if not self.csv.is_file():
                raise missing_data_error(self.csv, self.how_to_get)
            return read_solutions(
                self.csv, self.id_column, self.target, self.target_columns, self.min_examples
            )

    @cached_property
    def class_names(self) -> list[str] | None:
        """Those of a question are known without the CSV."""
        if self.target.startswith("question "):
            return list(TREE[int(self.target.removeprefix("question "))])
        return self.solutions.class_names

    @cached_property
    def num_classes(self) -> int | None:
        return None if self.target == "regression" or not self.class_names else len(self.class_names)

    @cached_property
    def target_names(self) -> list[str] | None:
        return (self.target_columns or COLUMNS) if self.target == "regression" else None

    def locate_file(self, split: str, kind: Literal["images", "labels"]) -> Path:
        return self.packed if kind == "images" else self.csv

    def prepare_data(self) -> None:
        with readable_disk_errors(self.source):
            if not self.source.is_dir():  # the decoded array is used without it
                if not self.packed.is_file():
                    raise missing_data_error(self.source, self.how_to_get)
                return
            files = self.files
        pack_images(files, self.packed, self.crop, self.stored, self.on_bad_image)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The JPG of each id, listed once; a line says how many, and what is left out."""
        listing = FileListing(self.source, JPG)
        files = {}
        for path in listing.list_images(self.source):
            if path.stem in files:
                raise MisconfigurationException(
                    f"{path.absolute()} and {files[path.stem].name} have the same id: keep one of them"
                )
            files[path.stem] = path
        if not files:
            raise MisconfigurationException(f"there are no JPGs in {self.source.absolute()}")
        rank_zero_info(listing.describe({"": len(files)}))
        return files

    def read_arrays(self) -> dict[str, ArraySplit]:
        """Read the rows of the images of each split; test and validation are held out where the CSV has none."""
        images, manifest = read_images(self.packed), read_manifest(self.packed)
        labels, splits = self.solutions.match_images(manifest["ids"], manifest["unreadable"])
        rows = {name: np.flatnonzero(splits == name) for name in SPLITS}
        if self.solutions.splits is None:
            train, test = stratified_split(
                np.zeros(len(rows["train"])), self.held_out, TEST_SEED, "test_size", stay=1
            )
            rows |= {"train": rows["train"][train], "test": rows["train"][test]}
        if not len(rows["train"]):
            raise MisconfigurationException(f"{self.csv.absolute()}: no row with an image is of split train")
        arrays = {
            name: ArraySplit(images, labels, split_rows)
            for name, split_rows in rows.items()
            if len(split_rows)
        }
        arrays["unlabeled"] = ArraySplit(images, rows=np.union1d(rows["train"], rows["unlabeled"]))
        return {name: split for name, split in arrays.items() if name in (*self.sources, "val", "test")}
