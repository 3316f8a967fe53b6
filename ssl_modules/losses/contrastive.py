"""NT-Xent, the loss that compares each view with all others of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_modules.losses.blockwise import BlockwiseInfoNCE
from ssl_modules.losses.directions import normalize_vectors


def plain_nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """`nt_xent` in its plain form, to be read and compared with: it holds all similarities of the batch in memory.

    Args:
        z1, z2: projections (B, P) of two views of the same B images; row i of both is image i.
        temperature: divides the cosine similarities.
    """
    z = normalize_vectors(torch.cat([z1, z2]), dim=1)  # (2B, P)
    similarity = z @ z.T / temperature  # (2B, 2B)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = similarity.masked_fill(itself, float("-inf"))  # a view is not its own partner
    partner = torch.arange(len(z), device=z.device).roll(len(z1))  # i <-> i + B
    return F.cross_entropy(similarity, partner)


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float,
    candidates: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
    decoupled: bool = False,
    sigma: float | None = None,
) -> Tensor:
    """Each view must pick its partner among all other views of the batch: -log softmax of the partner.

    The same numbers as `plain_nt_xent`, in blocks that fit into memory, and for one process's share of a batch.

    Args:
        z1, z2: projections (B, P) of two views of the same B images; row i of both is image i.
        temperature: divides the cosine similarities.
        candidates: the same pair for the whole batch, (N, P) each, where `z1, z2` are only the rows
            `first ... first + B` of it (several processes); by default the batch is `z1, z2` itself.
        first: row of `candidates` that row 0 of `z1` is.
        decoupled: leave the partner out of the softmax's denominator (DCL).
        sigma: weight the partners of a decoupled loss by `weigh_partners` (DCLW).

    Returns:
        Scalar float32, the mean over the 2B local views. log(2N - 1) when all views are equal, log(2N - 2) where
        it is decoupled.

    Chen et al. 2020, eq. 1, https://arxiv.org/abs/2002.05709; decoupled: Yeh et al. 2021, eq. 5 and 7,
    https://arxiv.org/abs/2110.06848
    """
    z1, z2 = (normalize_vectors(z, dim=1) for z in (z1, z2))
    all1, all2 = (z1, z2) if candidates is None else (normalize_vectors(z, dim=1) for z in candidates)
    views, others = torch.cat([z1, z2]), torch.cat([all1, all2])  # (2B, P), (2N, P)
    row = torch.arange(first, first + len(z1), device=z1.device)
    itself, partner = torch.cat([row, row + len(all1)]), torch.cat([row + len(all1), row])
    with torch.autocast(z1.device.type, enabled=False):
        weights = None
        if decoupled:
            weights = torch.ones_like(all1[:, 0]) if sigma is None else weigh_partners(all1, all2, sigma)
            weights = weights[first : first + len(z1)].repeat(2)
        return BlockwiseInfoNCE.apply(views, others, itself, partner, weights, temperature) / len(views)


@torch.no_grad()
def weigh_partners(z1: Tensor, z2: Tensor, sigma: float) -> Tensor:
    """Weights (N,) of the partners in DCLW, with mean 1: the less alike two views are, the more they weigh.

    2 - exp(z1 z2 / sigma), divided by its mean over the batch. No gradient goes through it, as in lightly.

    Args:
        z1, z2: directions (N, P) of the whole batch.
        sigma: 0.5 in the paper.

    Yeh et al. 2021, eq. 7, https://arxiv.org/abs/2110.06848
    """
    return 2 - len(z1) * ((z1 * z2).sum(1) / sigma).softmax(0)


def info_nce(queries: Tensor, candidates: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Each query must pick its positive among the candidates: -log softmax of the positive.

    Args:
        queries: (B, P).
        candidates: (N, P).
        positives: (B,), rows of `candidates`.
        temperature: divides the cosine similarities.

    Returns:
        Scalar float32, the mean over queries. log N when all candidates are equal.

    van den Oord et al. 2018, eq. 4, https://arxiv.org/abs/1807.03748
    """
    queries, candidates = normalize_vectors(queries, dim=1), normalize_vectors(candidates, dim=1)
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(queries @ candidates.T / temperature, positives)
