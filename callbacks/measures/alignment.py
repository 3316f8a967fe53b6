"""Alignment of two views and uniformity on the sphere, the two properties that a contrastive loss trades off.

Wang & Isola 2020, https://arxiv.org/abs/2005.10242
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def view_alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of the normalized projections (B, P) of two views of an image: 0 is perfect."""
    return (F.normalize(z1.float(), dim=1) - F.normalize(z2.float(), dim=1)).square().sum(1).mean()


def sphere_uniformity(z: Tensor) -> Tensor:
    """log of the mean of exp(-2 squared distance) over pairs of normalized projections (B, P): 0 at a point."""
    if len(z) < 2:
        return z.new_zeros((), dtype=torch.float32)
    return F.pdist(F.normalize(z.float(), dim=1)).square().mul(-2).exp().mean().log()
