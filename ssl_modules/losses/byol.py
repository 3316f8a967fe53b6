"""BYOL's loss: how far predictions point from the targets."""

import torch.nn.functional as F
from torch import Tensor

from ssl_modules.losses.directions import detach_zeros


def prediction_losses(predictions: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of the normalized vectors, which is 2 - 2 cos, for each row.

    Args:
        predictions: (B, P).
        targets: (B, P); no gradient reaches them.

    Returns:
        (B,), in [0, 4]; 0 where both point the same way, 2 where one is zero.

    Grill et al. 2020, eq. 2, https://arxiv.org/abs/2006.07733
    """
    return 2 - 2 * F.cosine_similarity(detach_zeros(predictions, dim=1), targets.detach().float(), dim=1)
