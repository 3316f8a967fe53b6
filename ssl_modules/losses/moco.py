"""MoCo's loss: a query finds its key among the keys of earlier batches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_modules.losses.directions import normalize_vectors


def queue_contrast(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """-log softmax of a query's own key among it and all keys of the queue.

    Args:
        queries, keys: (B, P); row i of both is image i. No gradient reaches the keys.
        queue: (K, P), of length 1.
        temperature: divides the cosine similarities.

    Returns:
        Scalar float32, the mean over queries. log(K + 1) when all keys are equal.

    He et al. 2020, eq. 1, https://arxiv.org/abs/1911.05722
    """
    queries, keys = normalize_vectors(queries, dim=1), normalize_vectors(keys.detach(), dim=1)
    with torch.autocast(queries.device.type, enabled=False):
        positive = (queries * keys).sum(1, keepdim=True)  # (B, 1)
        logits = torch.cat([positive, queries @ queue.T], 1) / temperature  # (B, 1 + K)
    return F.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.long))
