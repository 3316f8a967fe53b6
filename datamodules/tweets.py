"""The data module of tweets, negative or positive: CSV files -> batches of ASCII codes of about equal length."""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch
from common.files import readable_os_errors
from common.ranges import NonNegativeInt, PositiveInt, Seed, ShareBelowOne
from datamodules.base import DataModule
from datamodules.storage.noise import random_labels, random_texts
from datamodules.storage.splits import TEST_SEED, hold_out_split
from datamodules.storage.tweet_files import read_tweets, read_unlabeled, to_ascii
from datamodules.texts import TextRows

CANNOT_READ = (
    "{path} cannot be read: {reason}: give yourself the right to, or point "
    "--data.init_args.data_dir elsewhere"
)


class Tweets(DataModule):
    """Tweets with labels 0 and 1, in `data_dir/name`: train.csv or tweetstrain.csv, and so on for val and test.

    A view is int64 (B, T): the ASCII codes of each tweet, 1 to 127, then 0 up to the longest tweet of the batch. A
    tweet without any characters stays, as zeros.

    Args:
        name: subfolder of `data_dir`.
        data_dir: the folder of the data sets.
        train_on: `labeled` trains on the training split; `unlabeled` on unlabeled.txt, a tweet a line, while
            validation, kNN and probes keep to the labeled ones.
        non_ascii: `transliterate` takes off accents, straightens curly quotes and dashes, and drops what has no
            counterpart in ASCII; `drop` drops all that is not ASCII.
        max_length: in characters; a longer tweet is cut there.
        val_size: share of each class that is held out of the training split where there is no val split; from 1 a
            number of tweets, as many of each class; none with 0.
        test_size: the same for a test split, which is held out before it and always the same.
        split_seed: seed of that split, apart from the run's seed.
    """

    num_classes = 2
    class_names: ClassVar[list[str]] = ["negative", "positive"]
    raw_name = "characters"
    augments = False

    def __init__(
        self,
        name: str = "tweets",
        data_dir: str = "data",
        train_on: Literal["labeled", "unlabeled"] = "labeled",
        non_ascii: Literal["transliterate", "drop"] = "transliterate",
        max_length: PositiveInt = 280,
        val_size: NonNegativeInt | ShareBelowOne = 0.1,
        test_size: NonNegativeInt | ShareBelowOne = 0,
        split_seed: Seed = 0,
        **shared,
    ):
        super().__init__(views=["as read"], **shared)
        self.folder = Path(data_dir) / name
        self.train_on, self.non_ascii, self.max_length = train_on, non_ascii, max_length
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed

    def setup(self, stage: str) -> None:
        if not self.datasets:
            self.open_splits()

    def fill_with_noise(self, channels: int) -> None:
        """Fill `datasets` with random texts of up to `max_length` characters."""
        count = max(8, self.batch_size)
        rows = random_texts(count, self.max_length, random_labels(count, self.num_classes, None))
        self.datasets = {"train": rows, "val": rows}

    def open_splits(self) -> None:
        """Read the files into `datasets`, and hold out validation where no file has it."""
        splits = {}
        for split, path in self.find_files().items():
            if split == "unlabeled":
                splits[split] = TextRows(self.encode_texts(path, read_unlabeled(path)))
            else:
                texts, labels, sources = read_tweets(path)
                groups = sources if any(sources) else None
                splits[split] = TextRows(self.encode_texts(path, texts), labels, groups)
        for split, size, seed in (
            ("test", self.test_size, TEST_SEED),
            ("val", self.val_size, self.split_seed),
        ):
            if split not in splits and size:
                classes = splits["train"].labels.numpy()
                splits = hold_out_split(splits, split, classes, size, seed, self.class_names)
        if "unlabeled" in splits:
            splits["bank"], splits["train"] = splits["train"], splits.pop("unlabeled")
        self.datasets = splits

    def find_files(self) -> dict[str, Path]:
        """Find the file of each split that has one. Raise where a needed one is missing, with the names it may have."""
        names = {split: (f"{split}.csv", f"tweets{split}.csv") for split in ("train", "val", "test")}
        if self.train_on == "unlabeled":
            names["unlabeled"] = ("unlabeled.txt",)
        with readable_os_errors(self.folder.absolute(), CANNOT_READ):
            entries = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        files = {split: self.folder / name for split in names for name in names[split] if name in entries}
        for split in {"train", *names} - {"val", "test"} - files.keys():
            raise MisconfigurationException(
                f"no {' or '.join(names[split])} in {self.folder.absolute()}: put tweets there (README, Data), "
                "or point --data.init_args.data_dir to where they are"
            )
        return files

    def encode_texts(self, path: Path, texts: list[str]) -> list[bytes]:
        """Encode texts as ASCII of at most `max_length`; say how many are cut or empty."""
        encoded = [to_ascii(text, self.non_ascii == "transliterate") for text in texts]
        long, empty = sum(len(text) > self.max_length for text in encoded), encoded.count(b"")
        if long or empty:
            rank_zero_info(
                f"{path}: of {len(encoded)} tweets {long} are longer than {self.max_length} characters and cut there, "
                f"{empty} have none and stay empty"
            )
        return [text[: self.max_length] for text in encoded]

    def groups_of(self, split: str) -> list[str] | None:
        """The source of each tweet of a split; None where the file names none."""
        return self.datasets[split].groups

    def prepare_batch(self, stored: tuple, device: torch.device, augment: bool) -> Batch:
        """Stored codes uint8 (B, T), labels, index, key -> a batch of codes int64 (B, T) on `device`."""
        *columns, key = stored
        codes, labels, index = (column.to(device, non_blocking=True) for column in columns)
        return Batch([codes.long()], labels, index, key)

    def display(self, view: Tensor) -> list[str]:
        """Turn codes (B, T) into the tweets as a person reads them."""
        return [bytes(row[row > 0].tolist()).decode() for row in view.cpu()]

    def compute_raw_features(self, view: Tensor) -> Tensor:
        """Count how often each character occurs in codes (B, T): float32 (B, 128)."""
        counts = torch.zeros(len(view), 128, device=view.device)
        return counts.scatter_add_(1, view, (view > 0).float())

    def state_dict(self) -> dict:
        return {"non_ascii": self.non_ascii}

    def load_state_dict(self, state: dict) -> None:
        if state["non_ascii"] != self.non_ascii:
            raise MisconfigurationException(
                f"the checkpoint was trained with non_ascii {state['non_ascii']}, this run has {self.non_ascii}: "
                "set data.init_args.non_ascii to the checkpoint's"
            )
