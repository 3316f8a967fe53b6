"""InfoNCE computed block by block, so that the similarities of a large batch are never in memory all at once."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 2**22  # similarities (16 MB of float32) that are in memory at a time


class BlockwiseInfoNCE(torch.autograd.Function):
    """-log softmax of the partner, summed over views (n, P); `itself, partner` (n,) are rows of `others` (m, P).

    Its gradient by a similarity is the softmax, less one for the partner. It is computed on the way forward, block by
    block, which needs no more than a block of the (n, m) similarities at a time. `plain_nt_xent` in contrastive.py is
    the same loss in its plain form.
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
            by_similarity = log_p.exp_().scatter_add_(1, j, -torch.ones_like(j, dtype=x.dtype))
            torch.mm(by_similarity, others, out=by_x)
            by_others.addmm_(by_similarity.T, x)
        ctx.save_for_backward(by_views.div_(temperature), by_others.div_(temperature))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_views, by_others = ctx.saved_tensors
        return grad * by_views, grad * by_others, None, None, None
