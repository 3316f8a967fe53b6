"""I-JEPA's loss: how far predicted tokens are from a teacher's."""

import torch.nn.functional as F
from torch import Tensor


def standardize_tokens(tokens: Tensor) -> Tensor:
    """Tokens (..., D) less their means, by their standard deviations over D, float32."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


def block_losses(predictions: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 distance, for each number e^2 / 2 where the error e is below 1 and |e| - 1/2 elsewhere.

    As in the authors' code, which the published results come from; the paper has e^2, summed over a block's numbers.

    Args:
        predictions: tokens (B, T, L, D) of the L patches of T blocks.
        targets: the same of the teacher.

    Returns:
        (B,), means over all numbers of an image; 1/2 where all errors are 1.

    Assran et al. 2023, section 3, https://arxiv.org/abs/2301.08243; https://github.com/facebookresearch/ijepa
    """
    return F.smooth_l1_loss(predictions.float(), targets, reduction="none").mean((1, 2, 3))
