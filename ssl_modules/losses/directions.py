"""Directions of vectors, with gradients that are bounded at zero, too."""

import torch.nn.functional as F
from torch import Tensor

SHORTEST = 1e-12  # F.normalize divides by this or more


def detach_zeros(x: Tensor, dim: int) -> Tensor:
    """Vectors along `dim`, float32, where those without a direction, no longer than 1e-12, are zero without gradient.

    To divide a vector of zeros by its length gives zero, but a gradient of 1e12.
    """
    x = x.float()
    return x.masked_fill(x.detach().norm(dim=dim, keepdim=True) <= SHORTEST, 0)


def normalize_vectors(x: Tensor, dim: int) -> Tensor:
    """Divide the vectors along `dim` by their lengths, in float32; a vector of zeros stays zero without gradient."""
    return F.normalize(detach_zeros(x, dim), dim=dim)
