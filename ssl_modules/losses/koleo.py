"""KoLeo, which spreads features evenly: no image's may be close to those of its nearest neighbor."""

import torch
from torch import Tensor

from ssl_modules.losses.directions import normalize_vectors


def koleo(features: Tensor, candidates: Tensor | None = None, first: int = 0) -> Tensor:
    """-log of the distance from each normalized vector to the nearest other one of the batch.

    An estimate of negative entropy, up to constants, by Kozachenko and Leonenko.

    Args:
        features: (B, D).
        candidates: (N, D), the whole batch, where `features` are only its rows `first ... first + B` (several
            processes); by default the batch is `features` itself.
        first: row of `candidates` that row 0 of `features` is.

    Returns:
        (B,) float32; 18.4, without gradient, where two vectors are equal.

    Sablayrolles et al. 2018, eq. 2, https://arxiv.org/abs/1806.03198
    """
    x = normalize_vectors(features, dim=1)
    others = x if candidates is None else normalize_vectors(candidates, dim=1)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        similarity = x @ others.T  # (B, N)
        row = torch.arange(len(x), device=x.device)
        similarity[row, row + first] = -2  # no vector is its own neighbor
        nearest = similarity.argmax(1)
    return -((x - others[nearest]).norm(dim=1) + 1e-8).log()
