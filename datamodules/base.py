"""How data moves: stored rows -> whole batches -> views on the device, the same for images and text."""

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.loading.loader import BatchLoader, RowsDataset


class DataModule(LightningDataModule):
    """Splits of stored rows and their loaders. A subclass fills `datasets` in `setup` and says what a view is.

    Args:
        views: one recipe for each view that a training batch holds.
        batch_size: examples of a batch, on each process.
        seed: of order and augmentation; the run's.
        num_workers: processes that read batches ahead; 0 is fastest for arrays in memory.
    """

    num_classes: int | None = None
    class_names: list[str] | None = None
    raw_name: ClassVar[str] = "pixels"  # what `raw` returns, as tables call it

    def __init__(self, views: list[Any], batch_size: int = 256, seed: int = 0, num_workers: int = 0):
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

    def prepare(self, batch: tuple, device: torch.device, augment: bool) -> tuple:
        """Stored rows and their key -> the batch (views, labels, index, key) that a step reads, on `device`."""
        raise NotImplementedError

    def display(self, view: Tensor) -> Any:
        """A view as a person sees it: images uint8 (B, H, W, C), or strings."""
        raise NotImplementedError

    def raw(self, view: Tensor) -> Tensor:
        """The view itself as features (B, F): the lowest floor for an encoder."""
        raise NotImplementedError

    def names_of(self, split: str) -> list[str] | None:
        """The file that each example of a split comes from; None where they are no files."""
        return None

    def loader(self, split: str, training: bool = False) -> BatchLoader:
        trainer, (_, world) = self.trainer, self.shard()
        if len(self.datasets[split]) < world:
            raise MisconfigurationException(
                f"{len(self.datasets[split])} examples of {split} for {world} processes: each needs one, "
                "take fewer processes or more examples"
            )
        return BatchLoader(
            self.datasets[split],
            self.batch_size,
            seed=self.seed if training else None,
            shard=self.shard(),
            place=(lambda: (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready))
            if training and trainer
            else (lambda: (0, 0)),
            num_workers=self.num_workers if training else 0,
            pin_memory=torch.cuda.is_available(),
        )

    def shard(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> BatchLoader:
        loader = self.loader("train", training=True)
        if not len(loader):
            raise MisconfigurationException(
                f"batch_size {self.batch_size} on {self.shard()[1]} processes is more than the "
                f"{len(self.datasets['train'])} training examples: give a smaller one"
            )
        return loader

    def bank_dataloader(self) -> BatchLoader:
        """Labeled training examples without augmentation: what kNN, probes and retrieval refer to."""
        return self.loader("bank" if "bank" in self.datasets else "train")

    def val_dataloader(self) -> BatchLoader | list:
        return self.loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> BatchLoader | list:
        return self.loader("test") if "test" in self.datasets else []

    def transfer_batch_to_device(self, batch: tuple, device: torch.device, dataloader_idx: int) -> tuple:
        return self.prepare(batch, device, augment=self.trainer.training)
