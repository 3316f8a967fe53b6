"""MoCo v3: predict, from one view, which of a batch's images is the other, as a slow copy of the network has it.

Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057
"""

import torch
from torch import nn

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.losses.contrastive import info_nce
from ssl_modules.networks.mlp import mlp
from ssl_modules.schedules import scheduled_value


class MoCoV3(SSLModule):
    """Contrastive learning with a predictor, and with keys of a teacher: those of the batch on all processes.

    Batch norm sees each view alone. Of a ViT, the paper keeps the projection of patches: its option `frozen_patches`.

    Args:
        hidden_dim, out_dim: widths of the hidden layers of projector and predictor, and of what they put out.
        temperature: of the softmax over the batch; lower attends to harder negatives. The loss is multiplied by it.
        momentum: share of its weights that the teacher keeps at a step; rises to 1 as half a cosine.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 4096,
        out_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.2,
        momentum: UnitInterval = 0.99,
        **shared,
    ):
        super().__init__(**shared)
        dims = hidden_dim, hidden_dim, out_dim
        self.projector = nn.Sequential(*mlp(self.encoder.dim, *dims), nn.BatchNorm1d(out_dim, affine=False))
        self.predictor = nn.Sequential(
            *mlp(out_dim, hidden_dim, out_dim), nn.BatchNorm1d(out_dim, affine=False)
        )
        self.teacher = copy_network(self.student)
        self.temperature, self.momentum = temperature, momentum

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
        projections = [self.projector(f) for f in features]  # (B, P)
        with torch.no_grad():
            encoder, projector = self.teacher
            keys = [projector(self.encode_in_parts(encoder, view)) for view in batch.views]
            k1, k2 = map(self.gather, keys)  # (N, P)
        itself = self.global_rank * len(features[0]) + torch.arange(len(features[0]), device=k1.device)
        loss = sum(
            info_nce(self.predictor(z), keys, itself, self.temperature)
            for z, keys in zip(projections, (k2, k1), strict=True)
        )
        metrics = {"momentum": scheduled_value(self, self.momentum, 1.0)}
        return self.outputs(
            2 * self.temperature * loss, features[0], metrics, projections=torch.stack(projections)
        )

    def optimizer_step(self, *args, **kwargs) -> None:
        momentum = scheduled_value(self, self.momentum, 1.0)
        super().optimizer_step(*args, **kwargs)
        update_average(self.teacher, self.student, momentum)

    def describe(self, images: int, note: str) -> str:
        return f"{images - 1} negatives a query{note}"
