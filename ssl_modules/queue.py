"""Queues of what the last batches were projected to."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import BatchKey
from common.ranges import PositiveInt
from ssl_modules.losses.directions import normalize_vectors


class Queue(nn.Module):
    """The directions (size, dim) of the last rows that were pushed, the newest first; at the start random ones.

    All processes push the same rows, those of all of them, and so have the same queue.
    """

    def __init__(self, size: PositiveInt, dim: PositiveInt):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("rows", F.normalize(torch.randn(size, dim, generator=generator), dim=1))

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Take in rows (N, dim); as many of the oldest leave."""
        self.rows.copy_(torch.cat([normalize_vectors(rows, dim=1), self.rows])[: len(self.rows)])

    def get_share(self, key: BatchKey) -> Tensor:
        """This process's rows: those that it pushed itself."""
        return self.rows.unflatten(0, (-1, key.rows))[:, key.local].flatten(0, 1)


def check_queues(trainer: Trainer, *queues: Queue, keys: int = 1) -> None:
    """Raise where a queue does not hold whole batches, with so many keys of each image, or more than an epoch's."""
    data = trainer.datamodule
    batch = data.batch_size * trainer.world_size * keys
    largest = len(data.train_dataloader().dataset) * keys // batch * batch
    for size in (len(queue.rows) for queue in queues):
        if size % batch or size > largest:
            raise MisconfigurationException(
                f"model.init_args.queue_size is {size}: give a multiple of the keys of a batch of all processes "
                f"({batch}), up to those of an epoch ({largest})"
            )
