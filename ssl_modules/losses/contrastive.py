"""Losses that compare each view with the rest of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 2**22  # similarities (16 MB of float32) that are in memory at a time


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float,
    candidates: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Each view must pick its partner among all other views of the batch: -log softmax of the partner.

    Args:
        z1, z2: projections (B, P) of two views of the same B images; row i of both is image i.
        temperature: divides the cosine similarities.
        candidates: the same pair for the whole batch, (N, P) each, where `z1, z2` are only the rows
            `first ... first + B` of it (several processes); by default the batch is `z1, z2` itself.
        first: row of `candidates` that row 0 of `z1` is.

    Returns:
        Scalar float32, the mean over the 2B local views. log(2N - 1) when all views look alike.

    Chen et al. 2020, eq. 1, https://arxiv.org/abs/2002.05709
    """
    z1, z2 = (F.normalize(z.float(), dim=1) for z in (z1, z2))
    all1, all2 = (z1, z2) if candidates is None else (F.normalize(z.float(), dim=1) for z in candidates)
    views, others = torch.cat([z1, z2]), torch.cat([all1, all2])  # (2B, P), (2N, P)
    row = torch.arange(first, first + len(z1), device=z1.device)
    itself, partner = torch.cat([row, row + len(all1)]), torch.cat([row + len(all1), row])
    with torch.autocast(z1.device.type, enabled=False):
        return Surprise.apply(views, others, itself, partner, temperature) / len(views)


class Surprise(torch.autograd.Function):
    """-log softmax of the partner, summed over views (n, P); `itself, partner` (n,) are rows of `others` (m, P).

    Its gradient by a similarity is the softmax, less one for the partner. Taken on the way forward, block by block, it
    needs no more than a block of the (n, m) similarities at a time.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, views: Tensor, others: Tensor, itself: Tensor, partner: Tensor, temperature: float
    ) -> Tensor:
        loss, by_views, by_others = views.new_zeros(()), torch.empty_like(views), torch.zeros_like(others)
        columns = (views, by_views, itself[:, None], partner[:, None])
        for x, by_x, i, j in zip(*(c.split(max(1, BLOCK // len(others))) for c in columns), strict=True):
            similarity = (x / temperature) @ others.T
            similarity.scatter_(1, i, float("-inf"))  # a view is not its own partner
            log_p = similarity.log_softmax(1)
            loss -= log_p.gather(1, j).sum()
            slope = log_p.exp_().scatter_add_(1, j, -torch.ones_like(j, dtype=x.dtype))
            torch.mm(slope, others, out=by_x)
            by_others.addmm_(slope.T, x)
        ctx.save_for_backward(by_views.div_(temperature), by_others.div_(temperature))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        by_views, by_others = ctx.saved_tensors
        return slope * by_views, slope * by_others, None, None, None
