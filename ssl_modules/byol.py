"""BYOL: predict, from one view, what a slowly moving copy of the network makes of the other.

Grill et al. 2020, https://arxiv.org/abs/2006.07733
"""

import torch
from torch import nn

from common.batch import Batch
from common.ranges import PositiveInt, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.losses.byol import prediction_losses
from ssl_modules.networks.mlp import mlp
from ssl_modules.schedules import scheduled_value


class BYOL(SSLModule):
    """Learning without negatives: a predictor, and a teacher that no gradient reaches, keep it from collapse.

    Batch norm sees each view alone, in student and teacher, as in the paper.

    Args:
        hidden_dim: width of the projector's and the predictor's hidden layer.
        out_dim: width of the projections, where the loss lives.
        momentum: share of its weights that the teacher keeps at a step; rises to 1 as half a cosine.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 4096,
        out_dim: PositiveInt = 256,
        momentum: UnitInterval = 0.996,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, out_dim)
        self.predictor = mlp(out_dim, hidden_dim, out_dim)
        self.teacher = copy_network(self.student)
        self.momentum = momentum

    @property
    def student(self) -> nn.Sequential:
        """What the teacher follows."""
        return nn.Sequential(self.encoder, self.projector)

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def on_encoder_loaded(self) -> None:
        copy_weights(self.teacher, self.student)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = [self.encode(view) for view in batch.views]  # (B, D) each
        z1, z2 = (self.projector(f) for f in features)  # (B, P)
        with torch.no_grad():
            encoder, projector = self.teacher
            target1, target2 = (projector(self.encode_in_parts(encoder, view)) for view in batch.views)
        losses = prediction_losses(self.predictor(z1), target2)  # (B,)
        losses = losses + prediction_losses(self.predictor(z2), target1)
        metrics = {"momentum": scheduled_value(self, self.momentum, 1.0)}
        return self.outputs(losses.mean(), features[0], metrics, projections=torch.stack([z1, z2]))

    def optimizer_step(self, *args, **kwargs) -> None:
        momentum = scheduled_value(self, self.momentum, 1.0)
        super().optimizer_step(*args, **kwargs)
        update_average(self.teacher, self.student, momentum)
