"""Queues of what the last batches were projected to."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn


class Queue(nn.Module):
    """The last rows (size, dim) that were pushed, the newest first; at the start random directions, the same everywhere.

    All processes push the same rows, those of all of them.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("rows", F.normalize(torch.randn(size, dim, generator=generator), dim=1))

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Take in rows (N, dim); as many of the oldest leave."""
        self.rows.copy_(torch.cat([rows.to(self.rows.dtype), self.rows])[: len(self.rows)])


def check_queue(trainer: Trainer, size: int) -> None:
    """Raise where a queue does not hold whole batches, or holds an image twice."""
    data = trainer.datamodule
    batch, images = data.batch_size * trainer.world_size, len(data.train_dataloader().dataset)
    if size < 1 or size % batch or size > images:
        raise MisconfigurationException(
            f"model.init_args.queue_size is {size}: give a multiple of the batch of all processes ({batch}), up to "
            f"the number of training images ({images})"
        )
