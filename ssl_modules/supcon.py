"""SupCon: all views of all images of a class attract, those of other classes repel. It reads labels.

Khosla et al. 2020, https://arxiv.org/abs/2004.11362
"""

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.supcon import supervised_contrast
from ssl_modules.networks.mlp import mlp
from ssl_modules.supervision import check_class_labels


class SupCon(SSLModule):
    """Supervised contrastive learning over the batch of all processes; an image without a label is a class of its own.

    Args:
        hidden_dim: width of the projector.
        out_dim: width of the projections, where the loss lives.
        temperature: of the softmax over the batch; lower attends to harder negatives.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        out_dim: PositiveInt = 128,
        temperature: PositiveFloat = 0.1,
        **shared,
    ):
        super().__init__(**shared)
        self.projector = mlp(self.encoder.dim, hidden_dim, out_dim, norm=False)
        self.temperature = temperature

    def on_fit_start(self) -> None:
        super().on_fit_start()
        check_class_labels(self.trainer.datamodule, "SupCon")

    def check_views(self, recipes: list) -> str | None:
        return None if len(recipes) > 1 else "at least two views"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = self.encode_views(self.encoder, batch.views)  # (V, B, D)
        z = self.projector(features)  # (V, B, P)
        candidates = self.gather(z.transpose(0, 1)).transpose(0, 1), self.gather(batch.labels)
        first = self.global_rank * len(batch.labels)
        loss = supervised_contrast(z, batch.labels, self.temperature, candidates, first)
        return self.outputs(loss, features[0], projections=z)

    def describe(self, images: int, note: str) -> str:
        return f"the labels' classes among {images} images{note}"
