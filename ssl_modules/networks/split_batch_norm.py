"""Batch norm over groups of a batch, as if each were on a device of its own."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn


class SplitBatchNorm2d(nn.BatchNorm2d):
    """An nn.BatchNorm2d that, in training, normalizes `groups` parts of the batch, each by its own statistics.

    Running statistics are the mean over the groups. It adds no state of its own.

    He et al. 2020, section 3.3, https://arxiv.org/abs/1911.05722
    """

    groups = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        parts = x.tensor_split(self.groups)
        means, variances = (v.repeat(len(parts), 1) for v in (self.running_mean, self.running_var))
        options = self.weight, self.bias, True, self.momentum, self.eps
        normalized = [
            F.batch_norm(part, mean, variance, *options)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
        if self.momentum:  # the mean of equal rows is theirs but for rounding
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
            self.num_batches_tracked.add_(1)
        return torch.cat(normalized)


def split_batch_norms(network: nn.Module, groups: int, trainer: Trainer) -> None:
    """Make every nn.BatchNorm2d in a network a SplitBatchNorm2d of so many groups, in place, on a single process; each
    of several processes normalizes its part of the batch apart as it is."""
    if trainer.world_size > 1 or groups == 1:
        return
    batch = trainer.datamodule.batch_size
    if batch < 2 * groups:
        raise MisconfigurationException(
            f"{groups} groups of a batch of {batch}, for batch norms, have less than two images each: give fewer "
            "groups, or a larger batch"
        )
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SplitBatchNorm2d
            layer.groups = groups
