"""RotNet: to tell how an image was turned, a network must know what it shows.

Gidaris et al. 2018, https://arxiv.org/abs/1803.07728
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.batch import Batch
from ssl_modules.base import SSLModule
from ssl_modules.rotation import rotate_four_ways


class RotNet(SSLModule):
    """Predicts which of four turns an image was given, by a linear head on the features; a step sees all four turns.

    Logs `rotation_top1` beside the loss, for each split. A step returns the features of the upright images, and as
    `losses` the mean over the four turns of each image.
    """

    def __init__(self, **shared):
        super().__init__(**shared)
        self.turn_head = nn.Linear(self.encoder.dim, 4)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        copies, targets = rotate_four_ways(batch.views[0])  # (4B, C, S, S), (4B,)
        return self.classify_turns(self.encode(copies), targets)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict:
        copies, targets = rotate_four_ways(batch.views[0])
        # one turn at a time, so that the upright images' features are exactly those of `encode(view)`
        features = [self.encode(turned) for turned in copies.chunk(4)]
        return self.classify_turns(torch.cat(features), targets)

    def classify_turns(self, features: Tensor, targets: Tensor) -> dict:
        """Compute the step output from the features (4B, D) of all turns and the number (4B,) of each turn."""
        logits = self.turn_head(features).float()  # (4B, 4)
        losses = F.cross_entropy(logits, targets, reduction="none").view(4, -1).mean(0)  # (B,)
        correct = (logits.argmax(1) == targets).float().mean()
        return self.outputs(losses.mean(), features[: len(losses)], {"rotation_top1": correct}, losses=losses)
