"""MoCo v2: a view finds the other view of its image among the images of many earlier batches.

He et al. 2020, https://arxiv.org/abs/1911.05722; v2: Chen et al. 2020, https://arxiv.org/abs/2003.04297
"""

import torch

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.losses.moco import queue_contrast
from ssl_modules.networks.mlp import mlp
from ssl_modules.networks.split_batch_norm import split_batch_norms
from ssl_modules.queue import Queue, check_queues
from ssl_modules.shuffle import encode_shuffled


class MoCo(SSLModule):
    """Contrastive learning with a queue of negatives, which a slow copy of the network encoded. The copy gets images in
    another order, so that the statistics of batch norm do not tell which key belongs to a query.

    Args:
        hidden_dim, out_dim: widths of the projector's hidden layer, and of the projections.
        queue_size: keys of earlier batches, the negatives of each query.
        temperature: of the softmax over keys; lower attends to harder negatives.
        momentum: share of its weights that the teacher keeps at a step.
        symmetric: each view is query and key, at twice the cost, as in the authors' CIFAR-10 demonstration.
        norm_groups: how many parts of a batch batch norm normalizes apart, on a single process.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        out_dim: PositiveInt = 128,
        queue_size: PositiveInt = 65536,
        temperature: PositiveFloat = 0.2,
        momentum: UnitInterval = 0.999,
        symmetric: bool = False,
        norm_groups: PositiveInt = 8,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, out_dim, norm=False)
        self.teacher, self.queue = copy_network(self.student), Queue(queue_size, out_dim)
        self._ddp_params_and_buffers_to_ignore = ["queue.rows"]  # all processes have the same
        self.temperature, self.momentum = temperature, momentum
        self.symmetric, self.norm_groups = symmetric, norm_groups

    @property
    def student(self) -> torch.nn.Sequential:
        """What the teacher follows."""
        return torch.nn.Sequential(self.encoder, self.projector)

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) == 2 else "exactly two views"

    def on_encoder_loaded(self) -> None:
        copy_weights(self.teacher, self.student)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        check_queues(self.trainer, self.queue, keys=1 + self.symmetric)
        split_batch_norms(self, self.norm_groups)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        pairs = [batch.views, batch.views[::-1]][: 1 + self.symmetric]  # a query and its key
        features = [self.encode(query) for query, _ in pairs]  # (B, D) each
        z = [self.projector(f) for f in features]  # (B, P)
        self.keys = [encode_shuffled(self, self.teacher, view, batch.key) for _, view in pairs]  # (N, P)
        keys = [k[batch.key.local] for k in self.keys]
        loss = queue_contrast(torch.cat(z), torch.cat(keys), self.queue.rows, self.temperature)
        return self.outputs(loss, features[0], projections=torch.stack([z[0], keys[0]]))

    def on_after_backward(self) -> None:
        self.queue.push(torch.cat(self.keys))

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        update_average(self.teacher, self.student, self.momentum)
