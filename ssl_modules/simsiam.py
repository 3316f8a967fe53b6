"""SimSiam: predict, from one view, the projection of the others, to which no gradient goes back.

Chen & He 2020, https://arxiv.org/abs/2011.10566; more views: FastSiam, Pototzky et al. 2022,
https://link.springer.com/chapter/10.1007/978-3-031-16788-1_4
"""

import torch
from torch import Tensor, nn

from common.batch import Batch
from common.ranges import PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.byol import prediction_losses
from ssl_modules.networks.mlp import mlp


class SimSiam(SSLModule):
    """Learning without negatives and without a teacher: the stopped gradient keeps it from collapse.

    The target of a view is the mean projection of all others: with two views SimSiam, with more FastSiam. Batch norm
    sees each view alone, as in the paper.

    Args:
        hidden_dim: width of the projector's hidden layers, and of the projections, where the loss lives.
        predictor_dim: width of the predictor's hidden layer.
        layers: of the projector; 3 in the paper, 2 for CIFAR-10.
        constant_predictor_rate: the predictor's learning rate stays as it is after the warm-up.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        predictor_dim: PositiveInt = 512,
        layers: PositiveInt = 3,
        constant_predictor_rate: bool = True,
        **shared,
    ):
        super().__init__(**shared)
        norm = nn.BatchNorm1d(hidden_dim, affine=False)
        self.projector = nn.Sequential(*mlp(self.encoder.dim, *[hidden_dim] * layers), norm)
        self.predictor = mlp(hidden_dim, predictor_dim, hidden_dim)
        self.constant_predictor_rate = constant_predictor_rate

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) > 1 else "at least two views"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = [self.encode(view) for view in batch.views]  # (B, D) each
        projections = torch.stack([self.projector(f) for f in features])  # (V, B, P)
        losses = torch.stack([self.compare(projections, view) for view in range(len(features))])
        return self.outputs(losses.mean(), features[0], losses=losses.mean(0), projections=projections)

    def compare(self, projections: Tensor, view: int) -> Tensor:
        """- cos of the prediction from one of the views (V, B, P) and the mean of the others, as in eq. 1: (B,)."""
        others = torch.cat([projections[:view], projections[view + 1 :]])
        return prediction_losses(self.predictor(projections[view]), others.mean(0)) / 2 - 1

    def parameter_groups(self) -> list[dict]:
        """Those of the predictor apart, where its learning rate stays."""
        groups, predictor = super().parameter_groups(), set(self.predictor.parameters())
        if not self.constant_predictor_rate:
            return groups
        apart = []
        for group in groups:
            scheduled = [p for p in group["params"] if p not in predictor]
            constant = [p for p in group["params"] if p in predictor]
            apart += [group | {"params": scheduled}] if scheduled else []
            apart += [group | {"params": constant, "constant_rate": True}] if constant else []
        return apart
