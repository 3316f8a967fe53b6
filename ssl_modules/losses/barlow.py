"""The loss of Barlow Twins, on the correlations between the dimensions of two views."""

import torch
from torch import Tensor

from common.rounding import is_rounding
from ssl_modules.losses.directions import normalize_vectors


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal_weight: float, center: bool = True) -> Tensor:
    """Each dimension must agree across views and be uncorrelated with every other dimension.

    sum_i (1 - C_ii)^2 + off_diagonal_weight * sum_{i != j} C_ij^2, where C_ij is the cosine, over the batch, of
    dimension i of one view and dimension j of the other.

    Args:
        z1, z2: projections (N, P) of two views of the same N images; row n of both is image n.
        off_diagonal_weight: the paper's lambda.
        center: subtract each dimension's mean over the batch first, which makes the cosines correlations. The paper
            assumes centered projections; its equation 2, taken literally, does without.

    Returns:
        Scalar float32. 0 when views agree and dimensions are uncorrelated. A dimension that is constant in a view
        has correlation 0 with all others, and no gradient: P when all are constant.

    Zbontar et al. 2021, eq. 1-2, https://arxiv.org/abs/2103.03230
    """
    z1, z2 = (center_dimensions(z) if center else z for z in (z1, z2))
    with torch.autocast(z1.device.type, enabled=False):
        correlation = normalize_vectors(z1, dim=0).T @ normalize_vectors(z2, dim=0)  # (P, P)
    diagonal = correlation.diagonal()
    off_diagonal = correlation - diagonal.diag()
    return (1 - diagonal).square().sum() + off_diagonal_weight * off_diagonal.square().sum()


def center_dimensions(z: Tensor) -> Tensor:
    """Projections (N, P) less their mean over the batch, float32; 0 where a dimension varies by rounding alone."""
    eps = max(torch.finfo(z.dtype).eps, torch.finfo(torch.float32).eps)
    z = z.float()
    mean = z.mean(0)
    z = z - mean
    return z.masked_fill(is_rounding(z.detach().square().mean(0).sqrt(), mean.detach(), eps), 0)
