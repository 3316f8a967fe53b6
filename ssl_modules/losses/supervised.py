"""Losses of predictions against labels, of which some may be unknown."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def label_losses(
    logits: Tensor,
    labels: Tensor,
    target: Literal["class", "regression", "fractions"] = "class",
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute the loss of each label.

    Args:
        logits: (B, K), computed with in float32.
        labels: classes, int64 (B,), -1 where unknown; or numbers, float32 (B, K), NaN where unknown.
        target: `class` is -log softmax of the class, `regression` the squared error, `fractions`
            -y log p - (1 - y) log (1 - p) with p = sigmoid(logit).
        smoothing: of classes; the target is 1 - smoothing for the class, and smoothing / K added for all.
            Szegedy et al. 2015, section 7, https://arxiv.org/abs/1512.00567

    Returns:
        Losses in the shape of `labels`, 0 where it is unknown, log K for equal logits; and which labels are known.
    """
    logits = logits.float()
    if target == "class":
        losses = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none", label_smoothing=smoothing)
        return losses, labels >= 0
    has_label = ~labels.isnan()
    loss = F.mse_loss if target == "regression" else F.binary_cross_entropy_with_logits
    return loss(logits, labels.nan_to_num(), reduction="none").where(has_label, 0), has_label
