"""VICReg: two views of an image agree, every dimension varies, and no dimension says what another says.

Bardes, Ponce & LeCun 2021, https://arxiv.org/abs/2105.04906
"""

import torch

from common.batch import Batch
from common.ranges import NonNegativeFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.vicreg import covariance_penalty, invariance, variance_shortage
from ssl_modules.networks.mlp import mlp


class VICReg(SSLModule):
    """Invariance between views, variance and decorrelation of each view's projections over the batch of all processes.

    Batch norm sees each view alone, as in the authors' code.

    Args:
        hidden_dim: width of the projector's two hidden layers.
        out_dim: width of the projections, where the loss lives.
        invariance_weight, variance_weight, covariance_weight: of the three terms.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        out_dim: PositiveInt = 2048,
        invariance_weight: NonNegativeFloat = 25.0,
        variance_weight: NonNegativeFloat = 25.0,
        covariance_weight: NonNegativeFloat = 1.0,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, hidden_dim, out_dim)
        self.weights = invariance_weight, variance_weight, covariance_weight

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = [self.encode(view) for view in batch.views]  # (B, D) each
        z1, z2 = (self.projector(f) for f in features)  # (B, P)
        all_z = self.gather(z1), self.gather(z2)  # (N, P)
        terms = {
            "invariance": invariance(z1, z2),
            "variance_shortage": sum(map(variance_shortage, all_z)),
            "covariance": sum(map(covariance_penalty, all_z)),
        }
        loss = sum(weight * term for weight, term in zip(self.weights, terms.values(), strict=True))
        return self.outputs(loss, features[0], terms, projections=torch.stack([z1, z2]))

    def describe(self, images: int, note: str) -> str:
        return f"variances and covariances over {images} images{note}"
