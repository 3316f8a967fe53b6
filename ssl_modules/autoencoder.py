"""Autoencoder: draw an image again from a short code of it alone; and, with `beta`, know which way up it was.

Hinton & Salakhutdinov 2006, https://doi.org/10.1126/science.1127647
The turns as a second task, as beside a GAN: Chen et al. 2018, https://arxiv.org/abs/1811.11212
"""

from typing import Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import Batch
from common.ranges import NonNegativeFloat
from ssl_modules.base import SSLModule
from ssl_modules.rotation import rotate_four_ways

# what follows the decoder, and the range that it can reach
OUTPUTS = {"sigmoid": (torch.sigmoid, (0, 1)), "tanh": (torch.tanh, (-1, 1)), "linear": (nn.Identity(), None)}


class Autoencoder(SSLModule):
    """Reconstruct each image from its features.

    With `beta`, every training image is turned by a random multiple of 90 degrees and reconstructed as turned, and a
    linear layer on its features must name the turn: loss = reconstruction + beta * cross-entropy. The step's features,
    reconstructions and targets are then those of the turned images. At evaluation nothing is turned and the loss is the
    reconstruction's alone.

    Args:
        loss: squared error, or cross-entropy of pixels taken as probabilities; both are means over pixels and images.
        output: what follows the decoder. `sigmoid` needs views in [0, 1], `tanh` in [-1, 1].
        beta: weight of the turns; with 0 nothing is turned.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        loss: Literal["mse", "bce"] = "mse",
        output: Literal["sigmoid", "tanh", "linear"] = "sigmoid",
        beta: NonNegativeFloat = 0.0,
        **shared,
    ):
        super().__init__(**shared)
        if not hasattr(self.encoder, "decoder"):
            raise MisconfigurationException(
                f"Autoencoder: {type(self.encoder).__name__} has no decoder(): take ConvEncoder of "
                "ssl_modules.networks.conv_autoencoder or ResidualEncoder of ssl_modules.networks.residual_autoencoder"
            )
        if loss == "bce" and output != "sigmoid":
            raise MisconfigurationException(f"Autoencoder: bce needs output sigmoid, not {output}")
        self.decoder = self.encoder.decoder()
        self.loss, self.beta = loss, beta
        self.nonlinearity, self.value_range = OUTPUTS[output]
        if beta:
            self.turn_head = nn.Linear(self.encoder.dim, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, S, S) -> features (B, D), reconstructions (B, C, S, S), the error of each (B,)"""
        features = self.encode(images)
        outputs = self.decoder(features).float()
        reconstructions = self.nonlinearity(outputs)
        if self.loss == "bce":
            errors = F.binary_cross_entropy_with_logits(outputs, images, reduction="none")
        else:
            errors = (reconstructions - images).square()
        return features, reconstructions, errors.flatten(1).mean(1)

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) as drawn from their features, in the same scale. Labels are not read."""
        return self(images)[1]

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        images = batch.views[0]
        if not self.beta:
            return self.reconstruction_step(images)
        quarters = batch.key.randint(4).to(images.device, non_blocking=True)  # (B,)
        copies, targets = rotate_four_ways(images)  # (4B, C, S, S), (4B,)
        rows = quarters * len(images) + torch.arange(len(images), device=images.device)
        return self.reconstruction_step(copies[rows], targets[rows])

    def validation_step(self, batch: Batch, batch_idx: int) -> dict:
        return self.reconstruction_step(batch.views[0])

    def reconstruction_step(self, images: Tensor, turn: Tensor | None = None) -> dict:
        """Images (B, C, S, S) to reconstruct, and the quarter turns (B,) to name, if any."""
        features, reconstructions, errors = self(images)
        loss = errors.mean()
        # the curve that val/loss compares with: train/loss holds the turns, too
        metrics = {"reconstruction": loss} if self.beta else {}
        if turn is not None:
            scores = self.turn_head(features).float()  # (B, 4)
            loss = loss + self.beta * F.cross_entropy(scores, turn)
            metrics["rotation_top1"] = (scores.argmax(1) == turn).float().mean()
        more = {"losses": errors, "reconstructions": reconstructions, "targets": images}
        return self.outputs(loss, features, metrics, **more)
