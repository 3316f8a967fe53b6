"""How data moves: stored rows -> whole batches -> views on the device, the same for images and text."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch, BatchKey
from common.ranges import NonNegativeInt, PositiveInt, Seed
from datamodules.loading.loader import BatchLoader, RowsDataset


class DataModule(LightningDataModule):
    """Splits of stored rows and their loaders. A subclass fills `datasets` in `setup` and says what a view is.

    Args:
        views: recipes of the views that a training batch holds.
        batch_size: examples of a batch, on each process.
        seed: of order and augmentation; the run's.
        num_workers: processes that read batches ahead; 0 is fastest for arrays in memory.
    """

    num_classes: int | None = None
    class_names: list[str] | None = None
    raw_name: ClassVar[str] = "pixels"  # what `compute_raw_features` returns, as tables call it

    def __init__(
        self, views: list[Any], batch_size: PositiveInt = 256, seed: Seed = 0, num_workers: NonNegativeInt = 0
    ):
        super().__init__()
        self.views = views
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.datasets: dict[str, RowsDataset] = {}

    @property
    def num_outputs(self) -> int | None:
        """Width of a head for the labels."""
        return self.num_classes

    @property
    def augments(self) -> bool:
        """Whether training may see an example otherwise than validation does."""
        raise NotImplementedError

    @property
    def task(self) -> Literal["classification", "regression"] | None:
        """What the labels are for: classes, numbers, or nothing where there are no labels."""
        if self.num_classes:
            return "classification"
        return "regression" if self.num_outputs else None

    @property
    def recipes(self) -> list[Any]:
        """The recipe of each view of a training batch, once `setup` has run."""
        return self.views

    def fill_with_noise(self, channels: int) -> None:
        """Fill `datasets` with random rows, shaped as the config says, for checks that need no data.

        This base knows no shape and reads the data.

        Args:
            channels: what an encoder reads, for images of which nothing says how many channels they have.
        """
        self.prepare_data()
        self.setup("fit")

    def prepare_batch(self, stored: tuple, device: torch.device, augment: bool) -> Batch:
        """Stored rows and their key, as a loader yields them -> the batch that a step reads, on `device`."""
        raise NotImplementedError

    def rows_of(self, split: str) -> RowsDataset:
        """The stored rows of a split; "bank" are the labeled training examples."""
        return self.datasets["train" if split == "bank" and "bank" not in self.datasets else split]

    def batches(
        self, split: str, device: torch.device, augment: bool = False, key: int = 0
    ) -> Iterator[Batch]:
        """This process's share of a split in order, ready for a step. `key` seeds what is drawn."""
        for stored in self.make_loader(split, key=key):
            yield self.prepare_batch(stored, device, augment)

    def read_batch(
        self,
        split: str,
        positions: np.ndarray,
        device: torch.device,
        augment: bool = False,
        key: int = 0,
    ) -> Batch:
        """The examples at some positions of a split, on this process alone. `key`: the number that draws come from."""
        stored = self.rows_of(split).__getitems__(positions)
        return self.prepare_batch((*stored, BatchKey.single(key, len(positions), split)), device, augment)

    def display(self, view: Tensor) -> Any:
        """A view as a person sees it: images uint8 (B, H, W, C), or strings."""
        raise NotImplementedError

    def compute_raw_features(self, view: Tensor) -> Tensor:
        """The view itself as features (B, F): the lowest floor for an encoder."""
        raise NotImplementedError

    def names_of(self, split: str) -> list[str] | None:
        """The file that each example of a split comes from; None where they are no files."""
        return None

    def make_loader(self, split: str, training: bool = False, key: int = 0) -> BatchLoader:
        trainer, (_, world), rows = self.trainer, self.get_shard(), self.rows_of(split)
        if len(rows) < world:
            raise MisconfigurationException(
                f"{len(rows)} examples of {split} for {world} processes: each needs one, "
                "take fewer processes or more examples"
            )
        return BatchLoader(
            rows,
            self.batch_size,
            seed=self.seed if training else None,
            key_seed=None if training else key,
            split=split,
            shard=self.get_shard(),
            place=(lambda: (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready))
            if training and trainer
            else (lambda: (0, 0)),
            num_workers=self.num_workers if training else 0,
            pin_memory=torch.cuda.is_available(),
            reshuffle=not getattr(trainer, "overfit_batches", 0),
        )

    def get_shard(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> BatchLoader:
        loader = self.make_loader("train", training=True)
        if not len(loader):
            raise MisconfigurationException(
                f"batch_size {self.batch_size} on {self.get_shard()[1]} processes is more than the "
                f"{len(self.datasets['train'])} training examples: give a smaller one"
            )
        return loader

    def bank_dataloader(self) -> BatchLoader:
        """Labeled training examples without augmentation: what kNN, probes and retrieval refer to."""
        return self.make_loader("bank")

    def val_dataloader(self) -> BatchLoader | list:
        return self.make_loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> BatchLoader | list:
        return self.make_loader("test") if "test" in self.datasets else []

    def transfer_batch_to_device(self, batch: tuple, device: torch.device, dataloader_idx: int) -> Batch:
        return self.prepare_batch(batch, device, augment=self.trainer.training)
