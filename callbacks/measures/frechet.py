"""Fréchet distance of two sets of images, on statistics of their patches."""

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_statistics(images: Tensor, cells: int = 4) -> Tensor:
    """Compute mean and standard deviation of the pixels in each of cells x cells patches: coarse color, fine detail.

    Args:
        images: (N, C, H, W).

    Returns:
        (N, 2 * C * cells^2), in units of the pixels.
    """
    images = images.double()  # in float32 the difference of squares is rounding where a patch is flat
    mean = F.adaptive_avg_pool2d(images, cells)
    square = F.adaptive_avg_pool2d(images.square(), cells)
    return torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=1).flatten(1).float()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), of the means and covariances of two samples (N, D) and (M, D).

    0 where these agree. Samples of the same distribution have more than 0, and the more the fewer they are: compare
    only with distances of equally many.
    The covariance of a single row is 0.

    Heusel et al. 2017, eq. 6, https://arxiv.org/abs/1706.08500
    """
    a, b = a.double(), b.double()
    centered = [(x - x.mean(0)) / max(1, len(x) - 1) ** 0.5 for x in (a, b)]  # S = x^T x
    r, s = (torch.linalg.qr(x, mode="r").R for x in centered)
    root = torch.linalg.svdvals(r @ s.T).sum()  # tr (S S')^(1/2)
    total = sum(x.square().sum() for x in centered) - 2 * root
    return float((a.mean(0) - b.mean(0)).square().sum() + total.clamp(min=0))
