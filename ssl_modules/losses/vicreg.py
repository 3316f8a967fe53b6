"""The three terms of VICReg, on the projections of two views."""

import torch
import torch.nn.functional as F
from torch import Tensor


def invariance(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared difference of two views (N, P), over images and dimensions: scalar float32.

    Bardes et al. 2021, algorithm 1, https://arxiv.org/abs/2105.04906 (eq. 5 sums over dimensions)
    """
    return F.mse_loss(z1.float(), z2.float())


def variance_shortage(z: Tensor) -> Tensor:
    """How far below 1 the standard deviations of the dimensions are, on average; 0 where all reach it.

    Args:
        z: projections (N, P) of one view, on all processes.

    Bardes et al. 2021, eq. 1-2, https://arxiv.org/abs/2105.04906
    """
    return F.relu(1 - (z.float().var(0) + 1e-4).sqrt()).mean()


def covariance_penalty(z: Tensor) -> Tensor:
    """Squared covariances between different dimensions of projections (N, P), summed, divided by P; scalar float32.

    Bardes et al. 2021, eq. 3-4, https://arxiv.org/abs/2105.04906
    """
    z = z.float()
    z = z - z.mean(0)
    with torch.autocast(z.device.type, enabled=False):
        covariance = z.T @ z / (len(z) - 1)  # (P, P)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
