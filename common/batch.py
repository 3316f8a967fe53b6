"""A batch as steps and callbacks read it, and the key that all randomness of a batch is drawn from."""

from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchKey:
    """Where a batch's randomness comes from: equal keys draw equal numbers, on any number of processes.

    Args:
        number: 32 well-mixed bits.
        rows: examples in the batch of all processes.
        local: which of these rows are on this process.
        split: the split that the batch was read from.
    """

    number: int
    rows: int
    local: slice
    split: str = ""

    @classmethod
    def single(cls, number: int, rows: int, split: str = "") -> "BatchKey":
        """The key of a batch that is on this process alone."""
        return cls(number, rows, slice(rows), split)

    def generator(self, name: str = "") -> torch.Generator:
        """A fresh CPU generator, the same on all processes, for the draw of this name."""
        seed = np.random.SeedSequence([self.number, crc32(name.encode())]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def rand(self, *shape: int, name: str = "") -> Tensor:
        """Uniform in [0, 1), (B, *shape): this process's rows of a draw for the batch of all processes."""
        return torch.rand(self.rows, *shape, generator=self.generator(name))[self.local]

    def randn(self, *shape: int, name: str = "") -> Tensor:
        """Normal, (B, *shape), as `rand`."""
        return torch.randn(self.rows, *shape, generator=self.generator(name))[self.local]

    def randint(self, high: int, *shape: int, name: str = "") -> Tensor:
        """Integers in [0, high), (B, *shape), as `rand`."""
        return torch.randint(high, (self.rows, *shape), generator=self.generator(name))[self.local]


class Batch(NamedTuple):
    """Examples on one device, ready for a step.

    `views`: images float32 (B, C, H, W), or texts int64 (B, T); one in evaluation. `labels`: int64 (B,), -1 where
    unknown, or float32 (B, T), NaN where unknown. `index`: int64 (B,), the rows in their split.
    """

    views: list[Tensor]
    labels: Tensor
    index: Tensor
    key: BatchKey
