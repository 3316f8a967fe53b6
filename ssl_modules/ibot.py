"""iBOT: DINO, and the same for each patch, of which the student sees only those around it.

Zhou et al. 2021, https://arxiv.org/abs/2111.07832
"""

import torch
from torch import Tensor, nn

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, PositiveShare
from ssl_modules.dino import DINO
from ssl_modules.ema import copy_network
from ssl_modules.losses.dino import Centering, self_distillation
from ssl_modules.losses.ibot import masked_patch_losses
from ssl_modules.networks.masks import draw_view_masks
from ssl_modules.networks.patches import check_patch_encoder
from ssl_modules.networks.prototype_head import TokenHead
from ssl_modules.schedules import scheduled_value
from ssl_modules.views import check_patch_crops, split_crops


class IBOT(DINO):
    """Self-distillation of images, between views, and of the patches that are masked in half of the large views.

    Args:
        hidden_dim, prototypes, shared_head: of the head; see TokenHead.
        mask_ratio: share of the patches that are masked, between these; see `draw_view_masks`.
        patch_temperatures: of the teacher's softmax for patches, as `teacher_temperatures` for images.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 2048,
        prototypes: PositiveInt = 8192,
        shared_head: bool = True,
        mask_ratio: tuple[PositiveShare, PositiveShare] = (0.1, 0.5),
        patch_temperatures: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.07),
        **dino,
    ):
        super().__init__(hidden_dim=hidden_dim, prototypes=prototypes, head_norm=False, **dino)
        check_patch_encoder(self.encoder, type(self).__name__)
        self.head = TokenHead(self.encoder.dim, hidden_dim, prototypes, shared_head)
        self.teacher_head, self.mask_ratio = copy_network(self.head), mask_ratio
        self.mask_token = nn.Parameter(torch.zeros(self.encoder.dim))
        self.patch_centering = Centering(prototypes, self.centering.momentum)
        self.schedules = self.teacher_schedule, (*patch_temperatures, self.teacher_schedule[-1])

    def no_weight_decay(self) -> set[str]:
        return {"mask_token"}

    def check_views(self, recipes: list) -> str | None:
        return check_patch_crops(recipes, self.encoder)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        large, _ = split_crops(batch.views)
        mask = draw_view_masks(batch.key, len(large), self.encoder.grid(large[0]), self.mask_ratio)
        mask = mask.to(large[0].device, non_blocking=True)  # (G, B, N), with R masked patches
        with torch.no_grad():
            features, tokens = self.encode_view_tokens(self.encoder, large)  # (G, B, D), (G, B, N, D)
            targets, patch_targets = self.compute_targets(features, tokens, mask)  # (G, B, K), (R, K)
        images, tokens = self.encode_view_tokens(
            self.student, batch.views, mask, self.mask_token
        )  # (V, B, D)
        directions, similarities = self.head(images)
        losses = self_distillation(similarities, targets, self.temperature)
        similarities = self.head.compare_patches(tokens[mask])
        patch_losses = masked_patch_losses(similarities, patch_targets, mask, self.temperature)
        terms = {"class_loss": losses.mean(), "patch_loss": patch_losses.mean()}
        terms |= self.spread_features(images[: len(large)])
        metrics = terms | {"momentum": scheduled_value(self, self.momentum, 1.0)}
        metrics["teacher_temperature"] = scheduled_value(self, *self.teacher_schedule)
        return self.outputs(sum(terms.values()), features[0], metrics, projections=directions[: len(large)])

    def compute_targets(self, features: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's distributions of images (G, B, K) and of the masked patches (R, K)."""
        temperature, patch_temperature = (scheduled_value(self, *schedule) for schedule in self.schedules)
        targets = self.centering(self.teacher_head(features)[1], temperature, self.gather)
        logits = self.teacher_head.compare_patches(tokens)
        return targets, self.patch_centering(logits, patch_temperature, self.gather, mask)

    def spread_features(self, features: Tensor) -> dict[str, Tensor]:
        """Further terms of the loss, of the student's features (G, B, D) of large views: iBOT has none."""
        return {}
