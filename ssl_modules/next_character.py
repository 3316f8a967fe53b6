"""Next character: read a text and say, after each character, which one comes next. No label is needed.

Graves 2013, section 3, https://arxiv.org/abs/1308.0850
Features that tell sentiment come of it: Radford et al. 2017, https://arxiv.org/abs/1704.01444
"""

import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.batch import Batch
from ssl_modules.base import SSLModule


class NextCharacter(SSLModule):
    """A linear layer on each state of a recurrent encoder predicts the character that follows, but for the first.

    `loss` is the mean over characters, in nats: log 128 for a guess among all, and divided by log 2 bits per character.
    A text's entry in `losses` is the mean over its own characters. The features are the encoder's, of the same states.
    """

    monitor = ("val/loss", "min")

    def __init__(self, **shared):
        super().__init__(**shared)
        if not hasattr(self.encoder, "states"):
            raise MisconfigurationException(
                f"NextCharacter: {type(self.encoder).__name__} has no states(): take CharLSTM of "
                "ssl_modules.networks.char_lstm"
            )
        self.predictor = nn.Linear(self.encoder.dim, 128)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        view = batch.views[0]
        states = self.encoder.states(view)
        scores = self.predictor(states[:, :-1]).float()  # (B, T - 1, 128)
        follows = view[:, 1:]
        losses = F.cross_entropy(scores.transpose(1, 2), follows, ignore_index=0, reduction="none")
        is_character = follows > 0
        count = is_character.sum().float()
        if self.training:  # gradients are averaged over processes, however many characters they have
            count = self.gather(count[None]).mean()
        divisor = count.clamp(min=1)
        right = ((scores.argmax(2) == follows) & is_character).sum() / divisor
        of_texts = losses.sum(1) / is_character.sum(1).clamp(min=1)
        features = self.encoder.features(states, view)
        return self.outputs(losses.sum() / divisor, features, {"next_top1": right}, count, losses=of_texts)

    validation_step = training_step
