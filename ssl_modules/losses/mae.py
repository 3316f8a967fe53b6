"""MAE's loss: squared error of the patches that the encoder did not see."""

import torch
from torch import Tensor

from ssl_modules.networks.patches import mark_hidden


def measure_patches(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, not below 0.001, of the numbers of each patch: (B, N, P) -> (B, N, 1) each."""
    correction = min(1, patches.shape[-1] - 1)  # a single number has a deviation of 0
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True, correction=correction)
    return mean, (variance + 1e-6).sqrt()


def standardize_patches(patches: Tensor) -> Tensor:
    """Patches (B, N, P) less their means, by their standard deviations; a flat patch becomes 0."""
    mean, deviation = measure_patches(patches)
    return (patches - mean) / deviation


def restore_patches(standardized: Tensor, patches: Tensor) -> Tensor:
    """Give standardized patches (B, N, P) the means and standard deviations of `patches`."""
    mean, deviation = measure_patches(patches)
    return standardized * deviation + mean


def hidden_patch_losses(predictions: Tensor, targets: Tensor, keep: Tensor) -> Tensor:
    """Mean squared error over the pixels of hidden patches, of each image.

    Args:
        predictions, targets: (B, N, P).
        keep: places (B, M) of the patches that are not hidden; M < N.

    Returns:
        (B,); 1 - 1 / P where standardized patches are predicted to be 0.

    He et al. 2021, section 3, https://arxiv.org/abs/2111.06377
    """
    hidden = mark_hidden(keep, targets.shape[1])
    errors = (predictions.float() - targets).square().mean(2)  # (B, N)
    return (errors * hidden).sum(1) / hidden.sum(1)
