"""The two parts of the evidence lower bound, in nats: the likelihood of an image, and the cost of its latent.

Kingma & Welling 2013, https://arxiv.org/abs/1312.6114
"""

import math

import torch.nn.functional as F
from torch import Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) = (mean^2 + variance - 1 - log variance) / 2, for each component.

    Args:
        mean, log_variance: (B, D), of Gaussians with independent components.

    Returns:
        (B, D) float32; the sum over D is the divergence of an image's posterior. 0 at mean 0, variance 1; never less.

    Kingma & Welling 2013, appendix B
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.expm1() - log_variance) / 2


def free_bits(kl: Tensor, floor: float) -> Tensor:
    """Sum over components of max(floor, mean over the batch): below the floor, information in a component is free.

    Args:
        kl: (B, D), of each image and component.
        floor: lambda of the paper, in nats for each component; at 0 the sum is the mean divergence of an image.

    Returns:
        Scalar float32, D * floor or more.

    Kingma et al. 2016, appendix C.8, https://arxiv.org/abs/1606.04934
    """
    return kl.float().mean(0).clamp(min=floor).sum()


def bernoulli_nll(logits: Tensor, images: Tensor) -> Tensor:
    """-log p(image | latent) where each pixel is a Bernoulli variable: cross-entropy, summed over channels and pixels.

    For pixels between 0 and 1 it is least, but not 0, where sigmoid(logits) = images.

    Args:
        logits, images: (B, C, H, W); images in [0, 1].

    Returns:
        (B,) float32. C * H * W * log 2 at logits 0, for all images.

    Kingma & Welling 2013, appendix C.1
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), images.float(), reduction="none")
    return loss.flatten(1).sum(1)


def gaussian_nll(mean: Tensor, images: Tensor, sigma: float = 1.0) -> Tensor:
    """-log p(image | latent) where each pixel is normal with the same sigma, summed over channels and pixels.

    Args:
        mean, images: (B, C, H, W).
        sigma: standard deviation, in units of the pixels.

    Returns:
        (B,) float32. C * H * W * log(sigma * sqrt(2 pi)) where mean = images: negative for a small sigma, as the
        negative logarithm of a density can be.
    """
    error = (mean.float() - images.float()) / sigma
    return (error.square() / 2 + math.log(sigma * math.sqrt(2 * math.pi))).flatten(1).sum(1)
