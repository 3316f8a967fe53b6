"""Batch norm over groups of a batch, as if each were on a device of its own."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
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


def split_batch_norms(module: LightningModule, groups: int) -> None:
    """Make every nn.BatchNorm2d in a method a SplitBatchNorm2d of so many groups, in place, on a single process. On
    several nothing is changed: each normalizes its own part of the batch already.

    Raises:
        MisconfigurationException: a batch norm over all processes, or one that cannot be split; groups of one image.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if any(isinstance(m, nn.SyncBatchNorm) for m in norms):
        raise MisconfigurationException(
            f"{type(module).__name__}: batch norm over all processes tells which key belongs to a query: leave "
            "trainer.sync_batchnorm out"
        )
    if module.trainer.world_size > 1 or groups == 1:
        return
    batch = module.trainer.datamodule.batch_size
    part = min(batch, module.micro_batch or batch)  # what batch norms see at a time
    if (smallest := min(part, batch % part or part)) < 2 * groups:
        raise MisconfigurationException(
            f"model.init_args.norm_groups: {groups} groups of {smallest} images at a time (batch {batch}, micro_batch "
            f"{module.micro_batch}) have less than two each: give fewer groups, or more images"
        )
    for norm in norms:
        if isinstance(norm, nn.BatchNorm2d) and type(norm) not in (nn.BatchNorm2d, SplitBatchNorm2d):
            raise MisconfigurationException(
                f"{type(module).__name__} cannot split a {type(norm).__name__}: set model.init_args.norm_groups to 1, "
                "or take another encoder"
            )
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = SplitBatchNorm2d
            norm.groups = groups
