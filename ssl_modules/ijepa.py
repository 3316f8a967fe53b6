"""I-JEPA: from a part of an image, predict what a teacher's tokens of other parts are.

Assran et al. 2023, https://arxiv.org/abs/2301.08243
"""

import torch

from common.batch import Batch
from common.ranges import PositiveInt, PositiveShare, UnitInterval
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.losses.ijepa import block_losses, standardize_tokens
from ssl_modules.networks.masks import draw_context_and_targets
from ssl_modules.networks.patches import check_patch_encoder, count_patches, take_patches
from ssl_modules.networks.token_predictor import TokenPredictor
from ssl_modules.schedules import scheduled_value
from ssl_modules.views import list_sizes


class IJEPA(SSLModule):
    """Prediction of tokens. `encoder` is the teacher, which sees whole images and is judged; the optimizer trains
    `student`, a copy of it that sees the context alone, and a predictor.

    Set the encoder's `pool` to mean: no loss reaches what a class token says.

    Args:
        predictor_width, predictor_depth, predictor_heads: see TokenPredictor.
        momentum: share of its weights that the teacher keeps at a step; rises to 1 as half a cosine.
        target_scale, context_scale, min_context: of the blocks of patches; see `draw_context_and_targets`.
    """

    trained_encoder = "student"

    def __init__(
        self,
        predictor_width: PositiveInt = 96,
        predictor_depth: PositiveInt = 3,
        predictor_heads: PositiveInt = 3,
        momentum: UnitInterval = 0.996,
        target_scale: tuple[PositiveShare, PositiveShare] = (0.15, 0.2),
        context_scale: tuple[PositiveShare, PositiveShare] = (0.85, 1.0),
        min_context: PositiveInt = 10,
        **shared,
    ):
        super().__init__(**shared)
        check_patch_encoder(self.encoder, "IJEPA")
        self.predictor = TokenPredictor(self.encoder.dim, predictor_width, predictor_depth, predictor_heads)
        self.student, self.encoder = self.encoder, copy_network(self.encoder)  # what was frozen stays so
        self.momentum = momentum
        self.blocks = dict(target_scale=target_scale, context_scale=context_scale, min_context=min_context)

    def check_views(self, recipes: list) -> str | None:
        least = 4 * self.blocks["min_context"]  # a context has about two fifths of the patches
        rows, columns = count_patches(self.encoder, list_sizes(recipes)[0])
        suited = len(recipes) == 1 and rows * columns >= least
        return None if suited else f"exactly one view, of {least} patches or more (4 times min_context)"

    def on_encoder_loaded(self) -> None:
        copy_weights(self.student, self.encoder)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        view = batch.views[0]
        grid = self.encoder.grid(view)
        places = draw_context_and_targets(batch.key, grid, **self.blocks)
        context, targets = (place.to(view.device, non_blocking=True) for place in places)  # (B, M), (B, T, L)
        tokens = self.encode_in_parts(self.student, view, context, call=self.student.encode_tokens)[1]
        predictions = self.predictor(tokens, context, targets, grid)  # (B, T, L, D)
        with torch.no_grad():
            features, tokens = self.encode_in_parts(self.encoder, view, call=self.encoder.encode_tokens)
            wanted = take_patches(standardize_tokens(tokens), targets.flatten(1)).view_as(predictions)
        losses = block_losses(predictions, wanted)
        metrics = {"momentum": scheduled_value(self, self.momentum, 1.0)}
        return self.outputs(losses.mean(), features, metrics, losses=losses)

    def optimizer_step(self, *args, **kwargs) -> None:
        momentum = scheduled_value(self, self.momentum, 1.0)
        super().optimizer_step(*args, **kwargs)
        update_average(self.encoder, self.student, momentum)
