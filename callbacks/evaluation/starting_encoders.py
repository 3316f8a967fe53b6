"""Where an encoder started from: weights of a checkpoint or of somebody else, and a fresh initialization."""

import copy
from pathlib import Path

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.checkpoint import encoder_weights, read_checkpoint


def has_pretrained_weights(encoder: nn.Module) -> bool:
    """Whether the encoder, or a network in it, was built with weights of somebody else."""
    return any(getattr(network, "pretrained", False) for network in encoder.modules())


class StartingEncoders:
    """Copies of the encoder as it was before training.

    Args:
        module: as it was built, before a checkpoint is loaded: the encoder's weights come from the seed, or are
            somebody else's.
        fresh: a fresh initialization of an encoder that was built with weights.
    """

    def __init__(self, module: LightningModule, fresh: nn.Module | None):
        self.built, self.ckpt = copy.deepcopy(module.encoder), getattr(module, "ckpt", None)
        is_pretrained = has_pretrained_weights(module.encoder)
        self.untrained = fresh if is_pretrained else self.built
        # what training started from, unless from `untrained`
        self.before = self.built if is_pretrained else None

    def read_ckpt(self) -> None:
        """Read the weights of `ckpt`, once, also in a resumed run; where that fails, say so and do without."""
        path, self.ckpt = self.ckpt, None
        if not path:
            return
        self.before = None
        try:
            weights = encoder_weights(read_checkpoint(Path(path), "cpu", option="model.init_args.ckpt"))
            encoder = copy.deepcopy(self.built)
            encoder.load_state_dict(weights)
        except MisconfigurationException as error:
            rank_zero_warn(f"{error}; the protocol leaves out the numbers `before` training")
        except RuntimeError:
            rank_zero_warn(
                f"model.init_args.ckpt {path}: its encoder does not fit any more; the protocol leaves out the numbers "
                "`before` training"
            )
        else:
            self.before = encoder
