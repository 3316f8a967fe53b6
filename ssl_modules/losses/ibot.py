"""iBOT's loss of patches: the student's distributions of those it did not see, against the teacher's, which did."""

import torch.nn.functional as F
from torch import Tensor


def masked_patch_losses(student: Tensor, targets: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of a view's masked patches, each against the same patch of the same view; mean over views.

    Args:
        student: logits (R, K) of the R masked patches, in the order of `mask`.
        targets: the teacher's distributions (R, K) of the same patches.
        mask: bool (G, B, N), true for the R masked patches; of a view without any, the loss is 0.
        temperature: of the student's softmax.

    Returns:
        (B,); of views that are all masked, log K where all of the student's logits are equal.

    Zhou et al. 2021, eq. 2, https://arxiv.org/abs/2111.07832; the mean over views as in the authors' code
    """
    entropies = -(targets * F.log_softmax(student.float() / temperature, dim=-1)).sum(1)
    of_patches = entropies.new_zeros(mask.shape).masked_scatter(mask, entropies)  # (G, B, N)
    return (of_patches.sum(2) / mask.sum(2).clamp(min=1)).mean(0)
