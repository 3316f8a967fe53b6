"""Gaussians in a latent space: draws from a posterior, and one Gaussian for all posteriors of a class."""

from typing import NamedTuple

import torch
from torch import Tensor


def reparameterize(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draw once from each posterior so that gradients pass through the draw: mean + sigma * noise.

    Args:
        mean, log_variance: (B, D), of Gaussians with independent components.
        noise: (B, D), from N(0, 1).

    Returns:
        (B, D) float32.

    Kingma & Welling 2013, section 2.4, https://arxiv.org/abs/1312.6114
    """
    return mean.float() + (log_variance.float() / 2).exp() * noise


class Gaussian(NamedTuple):
    """mean (D,) and a lower triangular factor (D, D); the covariance is factor @ factor.T."""

    mean: Tensor
    factor: Tensor

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, D); the generator is on the CPU."""
        noise = torch.randn(count, len(self.mean), generator=generator).to(self.mean)
        return self.mean + noise @ self.factor.T


def aggregate_posterior(mean: Tensor, log_variance: Tensor) -> Gaussian:
    """Fit a Gaussian to a mixture of posteriors of equal weight: it has the mixture's mean and covariance.

    Its covariance is that of their means plus, on the diagonal, the mean of their variances (law of total variance).
    So it is full and positive definite from the first image on, without shrinkage.

    Args:
        mean, log_variance: (N, D), of the posteriors of N images.

    Returns:
        In float32.
    """
    mean, log_variance = mean.double(), log_variance.double()
    centered = mean - mean.mean(0)
    covariance = centered.T @ centered / len(mean) + log_variance.exp().mean(0).diag()
    return Gaussian(mean.mean(0).float(), torch.linalg.cholesky(covariance).float())


def class_gaussians(mean: Tensor, log_variance: Tensor, labels: Tensor) -> dict[int, Gaussian]:
    """Fit a Gaussian to the posteriors of each class.

    Args:
        mean, log_variance: (N, D), of the posteriors of training images.
        labels: (N,), -1 where unknown; those images are left out.

    Returns:
        Label -> Gaussian, for the classes that have images, in their order.
    """
    labels = labels.to(mean.device)
    classes = labels[labels >= 0].unique().tolist()
    return {k: aggregate_posterior(mean[labels == k], log_variance[labels == k]) for k in classes}
