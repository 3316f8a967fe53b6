"""Barlow Twins: two views of an image agree in every dimension, and no dimension says what another says.

Zbontar et al. 2021, https://arxiv.org/abs/2103.03230
"""

import torch
from torch import Tensor

from common.batch import Batch
from common.ranges import NonNegativeFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.barlow import barlow_twins
from ssl_modules.networks.mlp import mlp


class BarlowTwins(SSLModule):
    """The cross-correlation of the projections, over the batch of all processes, is pulled to the identity.

    Batch norm sees each view alone, as in the authors' code.

    Args:
        hidden_dim: width of the projector's two hidden layers.
        out_dim: width of the projections, where the loss lives; the paper gains from more, up to 16,384.
        off_diagonal_weight: of decorrelation against agreement, the paper's lambda.
        center: subtract each dimension's mean over the batch before correlating.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 1024,
        out_dim: PositiveInt = 1024,
        off_diagonal_weight: NonNegativeFloat = 0.005,
        center: bool = True,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, hidden_dim, out_dim)
        self.off_diagonal_weight = off_diagonal_weight
        self.center = center

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> features (B, D), projections (B, P)"""
        features = self.encode(view)
        return features, self.projector(features)

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        (features, z1), (_, z2) = map(self, batch.views)  # (B, D), (B, P)
        loss = barlow_twins(self.gather(z1), self.gather(z2), self.off_diagonal_weight, self.center)
        return self.outputs(loss, features, projections=torch.stack([z1, z2]))

    def describe(self, images: int, note: str) -> str:
        return f"correlations over {images} images{note}"
