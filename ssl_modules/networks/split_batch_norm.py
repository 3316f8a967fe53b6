"""Batch norm over groups of a batch, as if each were on a device of its own."""

import torch
import torch.nn.functional as F
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
        if self.track_running_stats:
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
            self.num_batches_tracked.add_(1)
        return torch.cat(normalized)


def split_batch_norms(network: nn.Module, groups: int) -> None:
    """Make every nn.BatchNorm2d in a network a SplitBatchNorm2d of so many groups, in place."""
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SplitBatchNorm2d
            layer.groups = groups
