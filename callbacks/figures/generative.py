"""What the figures of generative methods share: posteriors of a split, and decoded pixels as images."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation.features import FeatureSet, extract_features


def extract_posteriors(trainer: Trainer, module: LightningModule, split: str) -> FeatureSet:
    """Extract means and log variances (N, 2D), side by side, of a split's posteriors. All processes must ask."""

    def encode_posterior(view: Tensor) -> Tensor:
        return torch.cat(module.encoder.posterior(view), dim=1)  # (B, 2D)

    return extract_features(trainer, module.encoder, split, via=encode_posterior)


def to_uint8_images(pixels: Tensor) -> np.ndarray:
    """Turn pixels (N, C, H, W) in [0, 1] into images, uint8 (N, H, W, C)."""
    return pixels.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
