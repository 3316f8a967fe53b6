"""SimCLR: two views of an image attract, all other images of the batch repel.

Chen et al. 2020, https://arxiv.org/abs/2002.05709
"""

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.contrastive import nt_xent
from ssl_modules.networks.mlp import mlp


class SimCLR(SSLModule):
    """Contrastive learning with the rest of the batch, on all processes, as negatives.

    Args:
        hidden_dim: width of the projector.
        out_dim: width of the projections, where the loss lives.
        temperature: of the softmax over the batch; lower attends to harder negatives.
        decoupled: leave the partner out of the softmax's denominator (DCL, Yeh et al. 2021,
            https://arxiv.org/abs/2110.06848).
        sigma: of a decoupled loss, weight partners by how unlike they are (DCLW; 0.5 in the paper); all by 1 if None.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 512,
        out_dim: PositiveInt = 128,
        temperature: PositiveFloat = 0.2,
        decoupled: bool = False,
        sigma: PositiveFloat | None = None,
        **shared,
    ):
        super().__init__(**shared)
        if sigma is not None and not decoupled:
            raise MisconfigurationException(
                "SimCLR: sigma weights the partners of a decoupled loss: set decoupled, too"
            )
        self.decoupled, self.sigma = decoupled, sigma
        self.projector = mlp(self.encoder.dim, hidden_dim, out_dim)
        self.temperature = temperature

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> features (B, D), projections (B, P)"""
        features = self.encode(view)
        return features, self.projector(features)

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        x1, x2 = batch.views
        features, projections = self(torch.cat([x1, x2]))  # (2B, D), (2B, P)
        z1, z2 = projections.chunk(2)
        candidates = self.gather(z1), self.gather(z2)
        first = self.global_rank * len(z1)
        loss = nt_xent(z1, z2, self.temperature, candidates, first, self.decoupled, self.sigma)
        return self.outputs(loss, features[: len(x1)], projections=torch.stack([z1, z2]))

    def describe(self, images: int, note: str) -> str:
        return f"{2 * images - 2} negatives an anchor{note}"
