"""DINO: from any crop of an image, a student predicts what its teacher, a slow copy of it, says of a large one.

Caron et al. 2021, https://arxiv.org/abs/2104.14294
"""

import torch

from common.batch import Batch
from common.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.losses.dino import Centering, self_distillation
from ssl_modules.networks.prototype_head import PrototypeHead
from ssl_modules.schedules import scheduled_value
from ssl_modules.views import check_crops, split_crops


class DINO(SSLModule):
    """Self-distillation. `encoder` is the teacher, which is judged; the optimizer trains `student`, a copy of it.

    Args:
        hidden_dim, prototypes, head_norm: of the head; see PrototypeHead.
        momentum: share of its weights that the teacher keeps at a step; rises to 1 as half a cosine.
        temperature: of the student's softmax over prototypes.
        teacher_temperatures: of the teacher's, lower; moves from the first to the second over `temperature_epochs`.
        center_momentum: share of itself that the running mean of the teacher's logits keeps at a batch.
        frozen_epochs: in which the prototypes stay as they are at first.
    """

    trained_encoder = "student"

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        prototypes: PositiveInt = 4096,
        head_norm: bool = False,
        momentum: UnitInterval = 0.996,
        temperature: PositiveFloat = 0.1,
        teacher_temperatures: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.07),
        temperature_epochs: NonNegativeFloat = 30,
        center_momentum: UnitInterval = 0.9,
        frozen_epochs: NonNegativeInt = 1,
        **shared,
    ):
        super().__init__(**shared)
        self.head = PrototypeHead(self.encoder.dim, hidden_dim, prototypes, head_norm)
        self.student, self.encoder = self.encoder, copy_network(self.encoder)  # what was frozen stays so
        self.teacher_head = copy_network(self.head)
        self.centering = Centering(prototypes, center_momentum)
        self.momentum, self.temperature, self.frozen_epochs = momentum, temperature, frozen_epochs
        self.teacher_schedule = *teacher_temperatures, temperature_epochs

    def check_views(self, recipes: list) -> str | None:
        return check_crops(recipes)

    def on_encoder_loaded(self) -> None:
        copy_weights(self.student, self.encoder)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        large, _ = split_crops(batch.views)
        sharpness = scheduled_value(self, *self.teacher_schedule)
        with torch.no_grad():
            features = self.encode_views(self.encoder, large)  # (G, B, D), all that the teacher sees
            targets = self.centering(self.teacher_head(features)[1], sharpness, self.gather)
        student_features = self.encode_views(self.student, batch.views)  # (V, B, D)
        directions, similarities = self.head(student_features)  # (V, B, P), (V, B, K)
        losses = self_distillation(similarities, targets, self.temperature)
        metrics = {"momentum": scheduled_value(self, self.momentum, 1.0), "teacher_temperature": sharpness}
        return self.outputs(losses.mean(), features[0], metrics, projections=directions[: len(large)])

    def on_after_backward(self) -> None:
        for part in self.modules():
            if isinstance(part, Centering):
                part.update()
            elif isinstance(part, PrototypeHead) and self.current_epoch < self.frozen_epochs:
                part.prototypes.weight.grad = None

    def optimizer_step(self, *args, **kwargs) -> None:
        momentum = scheduled_value(self, self.momentum, 1.0)
        super().optimizer_step(*args, **kwargs)
        update_average(self.encoder, self.student, momentum)
        update_average(self.teacher_head, self.head, momentum)
