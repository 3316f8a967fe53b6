"""NNCLR: one view of an image attracts the nearest neighbor of the other among earlier images.

Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548
"""

import torch

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.contrastive import info_nce
from ssl_modules.losses.directions import normalize_vectors
from ssl_modules.networks.mlp import mlp
from ssl_modules.queue import Queue, check_queues


class NNCLR(SSLModule):
    """Contrastive learning whose positives are other images, from a support set of the last projections.

    Batch norm sees each view alone.

    Args:
        hidden_dim: width of the projector's two hidden layers.
        predictor_dim: width of the predictor's hidden layer.
        out_dim: width of the projections, where the loss lives.
        queue_size: projections of earlier batches in the support set.
        temperature: of the softmax over the batch; lower attends to harder negatives.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        predictor_dim: PositiveInt = 4096,
        out_dim: PositiveInt = 256,
        queue_size: PositiveInt = 98304,
        temperature: PositiveFloat = 0.1,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, hidden_dim, out_dim)
        self.projector.append(torch.nn.BatchNorm1d(out_dim))
        self.predictor = mlp(out_dim, predictor_dim, out_dim)
        self.queue = Queue(queue_size, out_dim)
        self._ddp_params_and_buffers_to_ignore = ["queue.rows"]  # all processes have the same
        self.temperature = temperature

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def on_fit_start(self) -> None:
        super().on_fit_start()
        check_queues(self.trainer, self.queue)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = [self.encode(view) for view in batch.views]  # (B, D) each
        z1, z2 = (self.projector(f) for f in features)  # (B, P)
        p1, p2 = (self.gather(self.predictor(z)) for z in (z1, z2))  # (N, P)
        itself = self.global_rank * len(z1) + torch.arange(len(z1), device=z1.device)
        loss = info_nce(self.find_neighbors(z1), p2, itself, self.temperature)
        loss = loss + info_nce(self.find_neighbors(z2), p1, itself, self.temperature)
        self.latest = z1.detach()
        return self.outputs(loss / 2, features[0], projections=torch.stack([z1, z2]))

    @torch.no_grad()
    def find_neighbors(self, z: torch.Tensor) -> torch.Tensor:
        """Projections (B, P) -> the rows of the support set (B, P) that are nearest to them."""
        directions, rows = normalize_vectors(z, dim=1), self.queue.rows
        with torch.autocast(z.device.type, enabled=False):
            return rows[(directions @ rows.T).argmax(1)]

    def on_after_backward(self) -> None:
        self.queue.push(self.gather(self.latest))

    def describe(self, images: int, note: str) -> str:
        return f"neighbors among {len(self.queue.rows)}, {images - 1} negatives each{note}"
