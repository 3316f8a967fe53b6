"""DINOv2: iBOT with balanced assignments in place of centers, a head of their own for patches, and spread features.

Oquab et al. 2023, https://arxiv.org/abs/2304.07193
"""

import torch
from torch import Tensor

from common.ranges import NonNegativeFloat, UnitInterval
from ssl_modules.ibot import IBOT
from ssl_modules.losses.koleo import koleo
from ssl_modules.losses.sinkhorn import sinkhorn
from ssl_modules.schedules import scheduled_value


class DINOv2(IBOT):
    """The teacher's distributions, of all images of a view's batch and of all masked patches, are Sinkhorn-Knopp's, and
    each large view's features keep away from those of other images, on all processes.

    Args:
        koleo_weight: of that term, for each large view.
        shared_head: whether images and patches have one head.
        momentum: share of its weights that the teacher keeps at a step; rises to 1 as half a cosine.
    """

    def __init__(
        self,
        koleo_weight: NonNegativeFloat = 0.1,
        shared_head: bool = False,
        momentum: UnitInterval = 0.992,
        **ibot,
    ):
        super().__init__(shared_head=shared_head, momentum=momentum, center_momentum=0.0, **ibot)
        self.centering = self.patch_centering = None
        self.koleo_weight = koleo_weight

    def compute_targets(self, features: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        temperature, patch_temperature = (scheduled_value(self, *schedule) for schedule in self.schedules)
        logits = self.teacher_head(features)[1]
        targets = sinkhorn(logits.flatten(0, 1), temperature, self.gather).view_as(logits)
        patch_logits = self.teacher_head.compare_patches(tokens[mask])
        return targets, sinkhorn(patch_logits, patch_temperature, self.gather)

    def spread_features(self, features: Tensor) -> dict[str, Tensor]:
        first = self.global_rank * features.shape[1]
        losses = torch.stack([koleo(view, self.gather(view), first) for view in features])  # (G, B)
        return {"koleo_loss": self.koleo_weight * losses.sum(0).mean()}
