"""InfoNCE computed block by block, so that the similarities of a large batch are never in memory all at once."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 2**22  # similarities (16 MB of float32) that are in memory at a time


class BlockwiseInfoNCE(torch.autograd.Function):
    """log sum exp(similarity to all others) - weight * similarity to the partner, summed over views.

    Its gradient by a similarity is the softmax, less the weight for the partner. It is computed on the way forward,
    block by block, which needs no more than a block of the (n, m) similarities at a time. `plain_nt_xent` in
    contrastive.py is the same loss in its plain form, for weights of 1.

    Args:
        views: (n, P), of length 1.
        others: (m, P), of length 1.
        itself, partner: (n,), rows of `others`. A view is not compared with itself.
        weights: (n,), of the partners, which are then left out of the sum; 1, and in the sum, if None.
        temperature: divides the similarities.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        views: Tensor,
        others: Tensor,
        itself: Tensor,
        partner: Tensor,
        weights: Tensor | None,
        temperature: float,
    ) -> Tensor:
        decoupled, weights = weights is not None, views.new_ones(len(views)) if weights is None else weights
        loss, by_views, by_others = views.new_zeros(()), torch.empty_like(views), torch.zeros_like(others)
        columns = (views, by_views, itself[:, None], partner[:, None], weights[:, None])
        for x, by_x, i, j, weight in zip(
            *(c.split(max(1, BLOCK // len(others))) for c in columns), strict=True
        ):
            similarity = (x / temperature) @ others.T
            positive = similarity.gather(1, j)
            similarity.scatter_(1, i, float("-inf"))
            if decoupled:
                similarity.scatter_(1, j, float("-inf"))
            log_sum = similarity.logsumexp(1, keepdim=True)
            loss += (log_sum - weight * positive).sum()
            by_similarity = similarity.sub_(log_sum).exp_().scatter_add_(1, j, -weight)
            torch.mm(by_similarity, others, out=by_x)
            by_others.addmm_(by_similarity.T, x)
        ctx.save_for_backward(by_views.div_(temperature), by_others.div_(temperature))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_views, by_others = ctx.saved_tensors
        return grad * by_views, grad * by_others, None, None, None, None
