"""Loader that reads whole batches; seed, epoch and batch number alone decide which rows a batch has."""

import math
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from common.batch import BatchKey

POOL_BATCHES = 20  # sorted by length together: 4 % of padding on tweets, and the order is still random
COPY_BYTES = 2**26  # read at a time when images are copied to a device


def batch_number(seed: int, epoch: int, batch: int) -> int:
    """Mix seed, epoch and position of a batch into the 32 bits that are its key's number."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1)[0])


class RowsDataset:
    """Rows of a memory-mapped array, read a whole batch at once.

    Args:
        images: uint8 (N, H, W, C).
        labels: (N,) int64 or (N, T) float32; without labels, each reads as -1.
        rows: the rows of both arrays that make up the split, in order; all by default.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None = None, rows: np.ndarray | None = None):
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows
        self.file = getattr(images, "filename", None)  # only a memory map has one
        self.file_size = os.path.getsize(self.file) if self.file else 0
        self.labels = torch.full((len(self.rows),), -1) if labels is None else torch.tensor(labels[self.rows])
        self.resident: Tensor | None = None  # the split's images on a device, after `keep_on`

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Read images uint8 (B, H, W, C), labels and index (B,) at positions (B,) in the split.

        Resident images stay on their device.
        """
        index = torch.as_tensor(positions)
        if self.resident is None:
            images = self.load_images(positions)
        else:
            images = self.resident.index_select(0, index.to(self.resident.device, non_blocking=True))
        return images, self.labels[index], index

    def load_images(self, positions: np.ndarray) -> Tensor:
        """Read the images uint8 (B, H, W, C) at positions (B,) in the split from the array."""
        # reading a memory map beyond the end of its file would kill the process
        if self.file and os.path.getsize(self.file) < self.file_size:
            raise MisconfigurationException(
                f"{self.file} has {os.path.getsize(self.file)} bytes, but had {self.file_size} when the run began: "
                "put the whole file back and run the same command with --ckpt_path last"
            )
        rows = self.rows[positions]
        order = np.argsort(rows)  # a memory map is read fastest from front to back
        images = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        images[order] = self.images[rows[order]]
        return torch.from_numpy(images)

    @property
    def nbytes(self) -> int:
        """Bytes that all images of the split take."""
        return len(self) * math.prod(self.images.shape[1:])

    def keep_on(self, device: torch.device) -> None:
        """Copy all images to a device; batches are then selected there."""
        resident = torch.empty(len(self), *self.images.shape[1:], dtype=torch.uint8, device=device)
        count = max(1, COPY_BYTES // math.prod(self.images.shape[1:]))  # images read at a time
        for first in range(0, len(self), count):
            positions = np.arange(first, min(first + count, len(self)))
            resident[first : first + count] = self.load_images(positions)
        self.resident = resident


def bucket_by_length(batches: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Regroup the rows of shuffled batches (M, B), so that the rows of a batch are about equally long.

    Rows are sorted by length within pools of `POOL_BATCHES` batches; then all batches are shuffled again.
    """
    pools = []
    for pool in np.split(batches, range(POOL_BATCHES, len(batches), POOL_BATCHES)):
        rows = pool.ravel()
        pools.append(rows[np.argsort(lengths[rows], kind="stable")].reshape(pool.shape))
    return rng.permutation(np.concatenate(pools))


class BatchLoader:
    """Iterates over the batches of one epoch, each `(*rows, key)`. `place` says where to start: no state is saved.

    Args:
        dataset: has `__len__` and `__getitems__(positions)`. If it has `lengths` (N,), the rows of a batch are about
            equally long, across all processes.
        batch_size: B, on each process.
        seed: shuffles the rows and drops the last, smaller batch, as training does. If None, rows come in order, or
            by length, and the last batch is kept.
        shard: rank and number of processes (`world`). With a seed, each process reads an equal block of every global
            batch; without, every `world`-th row.
        place: returns (epoch, first batch to read); called when the first batch is asked for.
        num_workers: processes that read ahead; 0 is fastest for arrays in memory.
        pin_memory: read into page-locked memory, for faster copies to a GPU.
        split: name of the split, for the batches' keys.
        key_seed: seed of the batches' keys; `seed` if None.
        reshuffle: whether each epoch has an order of its own, or all that of the first.
    """

    def __init__(
        self,
        dataset: RowsDataset,
        batch_size: int,
        seed: int | None = None,
        shard: tuple[int, int] = (0, 1),
        place: Callable[[], tuple[int, int]] = lambda: (0, 0),
        num_workers: int = 0,
        pin_memory: bool = False,
        split: str = "",
        key_seed: int | None = None,
        reshuffle: bool = True,
    ):
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.rank, self.world = shard
        self.place, self.num_workers, self.pin_memory, self.split = place, num_workers, pin_memory, split
        self.key_seed = (seed or 0) if key_seed is None else key_seed
        self.reshuffle = reshuffle

    def __len__(self) -> int:
        if self.seed is not None:
            return len(self.dataset) // (self.batch_size * self.world)
        rows_here = range(self.rank, len(self.dataset), self.world)
        return math.ceil(len(rows_here) / self.batch_size)

    def list_batches(self, epoch: int) -> list[np.ndarray]:
        """List this process's batches of an epoch, as positions in the dataset."""
        lengths = getattr(self.dataset, "lengths", None)
        if self.seed is None:
            rows = np.arange(self.rank, len(self.dataset), self.world)
            if lengths is not None:
                rows = rows[np.argsort(lengths[rows], kind="stable")]
            return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        rng = np.random.default_rng([self.seed, epoch])
        global_size = self.world * self.batch_size
        order = rng.permutation(len(self.dataset))[: len(self) * global_size]
        batches = order.reshape(len(self), global_size)
        if lengths is not None:
            batches = bucket_by_length(batches, lengths, rng)
        return list(batches[:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size])

    def __iter__(self) -> Iterator[tuple]:
        # a generator starts to run at its first batch: by then the Trainer knows its epoch, even after a resume
        epoch, first = self.place()
        positions = self.list_batches(epoch if self.reshuffle else 0)[first:]
        if self.num_workers:
            batches = DataLoader(
                self.dataset,
                batch_sampler=positions,
                num_workers=self.num_workers,
                collate_fn=_return_batch,
                pin_memory=self.pin_memory,
                generator=torch.Generator(),  # leaves the global generator alone
            )
        else:
            batches = map(self.dataset.__getitems__, positions)
        for number, batch in enumerate(batches, start=first):
            yield (*batch, self.make_key(epoch, number, len(batch[-1])))

    def make_key(self, epoch: int, number: int, count: int) -> BatchKey:
        """Make the key of batch `number`, of which this process has `count` examples."""
        if self.seed is not None:
            rows = self.world * count
            local = slice(self.rank * count, (self.rank + 1) * count)
        else:
            # as if the last batch were full: a row has the same draws on any number of processes
            rows = self.world * self.batch_size
            local = slice(self.rank, self.rank + self.world * count, self.world)
        return BatchKey(batch_number(self.key_seed, epoch, number), rows, local, self.split)

    def state_dict(self) -> dict:
        """Return nothing: `place` knows. Lightning looks for this method to see whether a loader can resume."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore nothing."""


def _return_batch(batch: tuple) -> tuple:
    return batch
