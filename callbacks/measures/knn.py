"""k nearest neighbors: the class of an image by a vote of the labeled features nearest to it.

Wu et al. 2018, section 3.4, https://arxiv.org/abs/1805.01978
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def score_by_neighbors(
    queries: Tensor,
    bank: Tensor,
    labels: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.1,
    chunk: int = 256,
    precision: str = "medium",
) -> Tensor:
    """Compute each class's share of the votes of a query's k nearest neighbors; its argmax is the prediction.

    A neighbor of cosine similarity s casts exp(s / temperature) votes. All of a bank smaller than k votes.

    Args:
        queries: features (N, D) of any length: only their direction counts.
        bank: features (M, D), on the same device.
        labels: classes (M,) of the bank, int64 in [0, num_classes).
        chunk: queries at a time; needs 4 * chunk * M bytes.
        precision: of the similarities, as in `torch.set_float32_matmul_precision`. "medium" multiplies in
            bf16 and sums in float32 where hardware can (else it is "highest"): faster, equal to 0.1 points.

    Returns:
        Scores (N, K), float32; rows sum to 1.

    Raises:
        ValueError: an empty bank, a label that is not a class, or features that are not finite.
    """
    if len(bank) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"kNN needs a bank of at least one example, with labels in [0, {num_classes})")
    if not (queries.isfinite().all() and bank.isfinite().all()):
        raise ValueError("kNN needs features that are finite numbers")
    queries, bank = F.normalize(queries.float(), dim=1), F.normalize(bank.float(), dim=1)
    # q.b = (q - mean).(b - mean) + b.mean + a number for each query, which changes no share. Centered, because
    # bf16 rounds away the differences where features have most in common, as an untrained network's do.
    mean = bank.mean(0)
    offset = bank @ mean  # (M,)
    queries -= mean
    bank -= mean

    k = min(k, len(bank))
    rows = max(1, round(0.6 * (len(bank) / k) ** 0.5))  # see top_k
    padding = -len(bank) % rows
    bank, offset = F.pad(bank, (0, 0, 0, padding)), F.pad(offset, (0, padding), value=float("-inf"))
    # One piece of memory for all chunks: getting it anew costs as much as the product.
    similarity = bank.new_empty(min(chunk, len(queries)), len(bank))
    scores = bank.new_zeros(len(queries), num_classes)
    with use_matmul_precision(precision):
        for q, score in zip(queries.split(chunk), scores.split(chunk), strict=True):
            s = torch.mm(q, bank.T, out=similarity[: len(q)]).add_(offset)
            values, neighbors = top_k(s.unflatten(1, (rows, -1)), k)
            score.scatter_add_(1, labels[neighbors], (values / temperature).softmax(1))
    return scores


def top_k(s: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest of each s[i] (N, R, C), in no order, and where they are in s[i].flatten(): (N, k) both.

    `topk` is slow on wide inputs. A column that holds one of the k largest has one of the k largest maxima:
    one pass for the maxima leaves k columns to search. R = 0.6 sqrt(R * C / k) was about fastest.
    """
    columns = s.amax(1).topk(k, sorted=False).indices  # (N, k)
    candidates = s.gather(2, columns[:, None].expand(-1, s.shape[1], -1))  # (N, R, k)
    values, positions = candidates.flatten(1).topk(k, sorted=False)
    return values, positions // k * s.shape[2] + columns.gather(1, positions % k)


@contextmanager
def use_matmul_precision(precision: str) -> Iterator[None]:
    """Multiply float32 matrices in this precision inside the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
