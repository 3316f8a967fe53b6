"""Principal components of the cells of maps, or patches of transformers, in one basis for several images."""

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor


class Components(NamedTuple):
    """Three principal components of maps: scores (n, 3, h, w), and their shares of the variance (3,)."""

    scores: Tensor
    shares: Tensor


def principal_components(x: Tensor, count: int = 3) -> tuple[Tensor, Tensor]:
    """Points (M, D) -> their scores on the first principal components (M, count), and the share of the variance that
    each has (count,); zeros where there are fewer. In float64, on the CPU; signs are arbitrary."""
    x = x.detach().cpu().double()
    left, singular, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    shares = singular.square() / singular.square().sum().clamp(min=torch.finfo(x.dtype).tiny)
    missing = max(0, count - len(singular))
    scores = torch.nn.functional.pad(left * singular, (0, missing))[:, :count]
    return scores, torch.nn.functional.pad(shares, (0, missing))[:count]


def orient_components(scores: Tensor, reference: Tensor) -> Tensor:
    """Turn the signs of components (M, K) so that each rises with a reference (M,)."""
    products = (reference - reference.mean()).to(scores) @ scores
    return torch.where(products < 0, -scores, scores)


def match_components(scores: Tensor, earlier: Tensor) -> tuple[list[int], Tensor]:
    """Find which components (M, K) continue those of an earlier time (M, K), of the same points.

    Returns:
        The order of the components in which the sum of the K correlations, in size, is largest; and the signs (K,), in
        that order, that make them positive.
    """
    a, b = (torch.nn.functional.normalize(x.double() - x.double().mean(0), dim=0) for x in (earlier, scores))
    correlation = a.T @ b  # (K, K), earlier ones in rows
    rows = range(len(correlation))
    order = max(permutations(rows), key=lambda columns: correlation.abs()[rows, columns].sum())
    return list(order), torch.where(correlation[rows, order] < 0, -1.0, 1.0).to(scores)


def scale_components(scores: Tensor, cut: float = 0.01) -> Tensor:
    """Scores (M, K) -> [0, 1], each component by itself: its lowest and highest share `cut` of the points are 0 and 1;
    0.5 where all are equal."""
    low, high = scores.quantile(cut, 0), scores.quantile(1 - cut, 0)
    spread = high - low
    scaled = ((scores - low) / torch.where(spread > 0, spread, 1)).clamp(0, 1)
    return torch.where(spread > 0, scaled, 0.5)
