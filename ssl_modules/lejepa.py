"""LeJEPA: views of an image meet in one point, and the points of all images are spread as a round Gaussian.

Balestriero & LeCun 2025, https://arxiv.org/abs/2511.08544
"""

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.losses.lejepa import center_losses, draw_directions, sigreg
from ssl_modules.networks.mlp import mlp
from ssl_modules.views import list_sizes, split_crops


class LeJEPA(SSLModule):
    """Every view predicts the mean of the large ones; a test of normality, which gradients pass, forbids collapse.

    There is no teacher, no predictor and no stop-gradient. Batch norm of the projector sees all views at once.

    Args:
        hidden_dim: width of the projector's two hidden layers.
        out_dim: width of the projections, where the loss lives.
        sigreg_weight: the paper's lambda: share of the test of normality in the loss, the other is the prediction's.
        directions: how many random directions a batch's projections are looked at from.
        points, t_max: of the test's integral; see `sigreg`. The authors' code has 33 and 3.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        out_dim: PositiveInt = 128,
        sigreg_weight: UnitInterval = 0.05,
        directions: PositiveInt = 1024,
        points: PositiveInt = 17,
        t_max: PositiveFloat = 5.0,
        **shared,
    ):
        super().__init__(**shared)
        if points < 3 or points % 2 == 0:
            raise MisconfigurationException(f"LeJEPA: {points} points: give an odd number from 3 up")
        self.projector = mlp(self.encoder.dim, hidden_dim, hidden_dim, out_dim)
        self.out_dim, self.directions, self.sigreg_weight = out_dim, directions, sigreg_weight
        self.integral = {"points": points, "t_max": t_max}

    def check_views(self, recipes: list) -> str | None:
        sizes = list_sizes(recipes)
        suited = len(sizes) > 1 and sizes == sorted(sizes, reverse=True)
        return None if suited else "at least two views, the largest first"

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        large, _ = split_crops(batch.views)
        features = self.encode_views(self.encoder, batch.views)  # (V, B, D)
        z = self.projector(features.flatten(0, 1)).unflatten(0, features.shape[:2])  # (V, B, P)
        directions = draw_directions(self.directions, self.out_dim, batch.key.generator("directions"))
        directions = directions.to(z.device, non_blocking=True)
        prediction = center_losses(z, len(large)).mean()
        normality = sigreg(z, directions, **self.integral, gather=self.gather)
        loss = (1 - self.sigreg_weight) * prediction + self.sigreg_weight * normality
        metrics = {"prediction": prediction, "sigreg": normality}
        return self.outputs(loss, features[0], metrics, projections=z)

    def describe(self, images: int, note: str) -> str:
        return f"normality of {images} images{note}"
