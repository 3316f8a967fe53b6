"""Whole batches of stored rows, in an order that is a function of seed, epoch and batch number alone."""

import math
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from common.batch import BatchKey

POOL = 20  # batches that are sorted by length together: 4 % of padding on tweets, and an epoch still left to chance
PART = 2**26  # bytes read at a time on the way to a device


def batch_number(seed: int, epoch: int, batch: int) -> int:
    """The number of a batch's key: 32 well-mixed bits."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1)[0])


class RowsDataset:
    """Rows of a memory-mapped array, read a whole batch at once.

    Args:
        images: uint8 (N, H, W, C).
        labels: (N,) int64 or (N, T) float32; None where there are none (read as -1).
        rows: which rows of the arrays make up the split, in order; all by default.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None = None, rows: np.ndarray | None = None):
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows
        self.file = getattr(images, "filename", None)  # of a memory map
        self.bytes = os.path.getsize(self.file) if self.file else 0
        self.labels = torch.full((len(self.rows),), -1) if labels is None else torch.tensor(labels[self.rows])
        self.resident: Tensor | None = None  # the split's images, kept on a device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in the split (B,) -> images uint8 (B, H, W, C), on their device if resident, labels, index (B,)"""
        index = torch.as_tensor(positions)
        if self.resident is None:
            images = self.load_images(positions)
        else:
            images = self.resident.index_select(0, index.to(self.resident.device, non_blocking=True))
        return images, self.labels[index], index

    def load_images(self, positions: np.ndarray) -> Tensor:
        """Positions in the split (B,) -> images uint8 (B, H, W, C) from the array."""
        # reading beyond its end would kill the process
        if self.file and os.path.getsize(self.file) < self.bytes:
            raise MisconfigurationException(
                f"{self.file}: {os.path.getsize(self.file)} bytes, it had {self.bytes} when the run began: "
                "put the whole file back, the same command with --ckpt_path last goes on"
            )
        rows = self.rows[positions]
        order = np.argsort(rows)  # a memory map is read fastest from front to back
        images = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        images[order] = self.images[rows[order]]
        return torch.from_numpy(images)

    @property
    def nbytes(self) -> int:
        """Of all images of the split."""
        return len(self) * math.prod(self.images.shape[1:])

    def keep_on(self, device: torch.device) -> None:
        """Copy all images to a device; from then on, batches are picked there."""
        kept = torch.empty(len(self), *self.images.shape[1:], dtype=torch.uint8, device=device)
        count = max(1, PART // math.prod(self.images.shape[1:]))
        for first in range(0, len(self), count):
            part = np.arange(first, min(first + count, len(self)))
            kept[first : first + count] = self.load_images(part)
        self.resident = kept


def bucket_by_length(batches: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of shuffled batches (M, B) dealt out anew, so that each batch is of rows about equally long.

    Rows change places within pools of `POOL` batches, which are sorted; then the batches are shuffled.
    """
    pools = []
    for pool in np.split(batches, range(POOL, len(batches), POOL)):
        rows = pool.ravel()
        pools.append(rows[np.argsort(lengths[rows], kind="stable")].reshape(pool.shape))
    return rng.permutation(np.concatenate(pools))


class BatchLoader:
    """Iterates one epoch of `(*stored rows, key)`; knows its place from `place`, so it has no state to save.

    Args:
        dataset: has `__len__` and `__getitems__(positions)`. If it has `lengths` (N,), batches are of rows about
            equally long, also those of other processes at the same time.
        batch_size: B, on each process.
        seed: of the order; None reads in order, or by length, and keeps the last, smaller batch.
        shard: rank and number of processes. In training a global batch is cut evenly; otherwise every `world`-th row.
        place: returns (epoch, first batch to read), asked when the first batch is.
        num_workers: processes that read ahead; 0 is fastest for arrays in memory.
        pin_memory: read into page-locked memory, for faster copies to a GPU.
        split: name of what is read, for the batches' keys.
        key_seed: of the batches' keys, with epoch and batch number; `seed` if None.
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
        self.split, self.key_seed = split, (seed or 0) if key_seed is None else key_seed
        self.dataset, self.batch_size, self.seed, self.place = dataset, batch_size, seed, place
        (self.rank, self.world), self.num_workers, self.pin_memory = shard, num_workers, pin_memory
        self.reshuffle = reshuffle

    def __len__(self) -> int:
        if self.seed is not None:
            return len(self.dataset) // (self.batch_size * self.world)
        return -(-len(range(self.rank, len(self.dataset), self.world)) // self.batch_size)

    def list_batches(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches, as positions in the data set, of this process."""
        lengths = getattr(self.dataset, "lengths", None)
        if self.seed is None:
            rows = np.arange(self.rank, len(self.dataset), self.world)
            if lengths is not None:
                rows = rows[np.argsort(lengths[rows], kind="stable")]
            return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.dataset))[: len(self) * self.batch_size * self.world]
        batches = order.reshape(len(self), self.world * self.batch_size)
        if lengths is not None:
            batches = bucket_by_length(batches, lengths, rng)
        return list(batches[:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size])

    def __iter__(self) -> Iterator[tuple]:
        # a generator: nothing is read before the Trainer knows its epoch, also after a resume
        epoch, first = self.place()
        batches = self.list_batches(epoch if self.reshuffle else 0)[first:]
        if self.num_workers:
            rows = iter(
                DataLoader(
                    self.dataset,
                    batch_sampler=batches,
                    num_workers=self.num_workers,
                    collate_fn=_as_is,
                    pin_memory=self.pin_memory,
                    generator=torch.Generator(),  # the global one is not ours to draw from
                )
            )
        else:
            rows = (self.dataset.__getitems__(batch) for batch in batches)
        for number, stored in enumerate(rows, start=first):
            yield (*stored, self.make_key(epoch, number, len(stored[-1])))

    def make_key(self, epoch: int, number: int, count: int) -> BatchKey:
        """The key of a batch, of which `count` examples are here; training batches are dealt out in blocks, others in
        turns."""
        if self.seed is not None:
            rows, local = self.world * count, slice(self.rank * count, (self.rank + 1) * count)
        else:  # also where the last batch is smaller: a row is to have the same draws on any number of processes
            rows = self.world * self.batch_size
            local = slice(self.rank, self.rank + self.world * count, self.world)
        return BatchKey(batch_number(self.key_seed, epoch, number), rows, local, self.split)

    def state_dict(self) -> dict:
        """Empty: the place follows from the Trainer's progress. Being there tells Lightning that resuming is safe."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to restore."""


def _as_is(batch: tuple) -> tuple:
    return batch
