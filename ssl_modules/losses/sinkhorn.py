"""Sinkhorn-Knopp: soft assignments of a batch to prototypes that give every prototype the same share."""

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    logits: Tensor,
    temperature: float,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    iterations: int = 3,
) -> Tensor:
    """Scale exp(logits / temperature), in turn, so that all columns and then all rows have the same sum.

    Args:
        logits: similarities (N, K) of this process's examples to prototypes; other processes may have other N.
        temperature: the smaller, the nearer each example comes to a single prototype; the paper's epsilon.
        gather: (1, K) on each process -> (processes, K) of all.
        iterations: of both scalings. The last one is of rows, so that they are distributions.

    Returns:
        Distributions (N, K), float32, without gradient; with more iterations, prototypes have
        more equal shares of all rows.

    Caron et al. 2020, section 3.1 and listing A.1, https://arxiv.org/abs/2006.09882; Cuturi 2013,
    https://arxiv.org/abs/1306.0895
    """
    log_shares = logits.detach().float() / temperature  # logarithms, in which nothing overflows
    for _ in range(iterations):
        log_shares = log_shares - gather(log_shares.logsumexp(0, keepdim=True)).logsumexp(0)
        log_shares = log_shares.log_softmax(1)
    return log_shares.exp()
