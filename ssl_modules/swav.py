"""SwAV: from any crop of an image, predict which prototypes a large crop of it is assigned to.

Caron et al. 2020, https://arxiv.org/abs/2006.09882
"""

import torch

from common.batch import Batch, BatchKey
from common.ranges import NonNegativeInt, PositiveFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.dino import self_distillation
from ssl_modules.losses.directions import normalize_vectors
from ssl_modules.losses.sinkhorn import sinkhorn
from ssl_modules.networks.mlp import mlp
from ssl_modules.networks.prototypes import Prototypes
from ssl_modules.queue import Queue, check_queues
from ssl_modules.views import check_two_large


class SwAV(SSLModule):
    """Online clustering; assignments give all prototypes the same share of the batch of all processes.

    Args:
        hidden_dim, out_dim, prototypes: width of the projector's hidden layer, of the projections, and how many.
        temperature, epsilon: of the softmax that predicts, and of the assignments; smaller, these are harder.
        frozen_epochs, queue_epochs: at first, in which the prototypes stay as they are, and the queues only fill.
        queue_size: projections of earlier batches, of each large crop, that are assigned with the batch.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        out_dim: PositiveInt = 128,
        prototypes: PositiveInt = 3000,
        temperature: PositiveFloat = 0.1,
        epsilon: PositiveFloat = 0.05,
        frozen_epochs: NonNegativeInt = 1,
        queue_size: PositiveInt | None = None,
        queue_epochs: NonNegativeInt = 15,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, out_dim)
        self.prototypes = Prototypes(out_dim, prototypes)
        self.queues = torch.nn.ModuleList(Queue(queue_size, out_dim) for _ in range(2 if queue_size else 0))
        self._ddp_params_and_buffers_to_ignore = ["queues.0.rows", "queues.1.rows"]  # the same everywhere
        self.temperature, self.epsilon = temperature, epsilon
        self.frozen_epochs, self.queue_epochs = frozen_epochs, queue_epochs

    def check_views(self, recipes: list) -> str | None:
        return check_two_large(recipes)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        check_queues(self.trainer, *self.queues)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = self.encode_views(self.encoder, batch.views)  # (V, B, D)
        z = normalize_vectors(self.projector(features.flatten(0, 1)), dim=1).unflatten(0, features.shape[:2])
        self.latest = z[:2].detach()
        targets = torch.stack([self.assign(crop, batch.key) for crop in range(2)])  # (2, B, K)
        loss = self_distillation(self.prototypes(z), targets, self.temperature).mean()
        return self.outputs(loss, features[0], projections=z[:2])

    def assign(self, crop: int, key: BatchKey) -> torch.Tensor:
        """Distributions (B, K) over prototypes of a large crop, assigned with this process's share of the queue."""
        rows = self.latest[crop]  # (B, P)
        if self.queues and self.current_epoch >= self.queue_epochs:
            rows = torch.cat([rows, self.queues[crop].get_share(key)])
        return sinkhorn(self.prototypes(rows), self.epsilon, self.gather)[: self.latest.shape[1]]

    def on_after_backward(self) -> None:
        for queue, rows in zip(self.queues, self.latest, strict=False):
            queue.push(self.gather(rows))
        if self.current_epoch < self.frozen_epochs:
            self.prototypes.weight.grad = None

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self.prototypes.normalize()
