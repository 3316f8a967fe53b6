"""What `validate`, `test` and `predict` judge where no checkpoint of the whole method is given: an encoder alone."""

from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.checkpoint import read_checkpoint
from ssl_modules.base import SSLModule
from ssl_modules.weights import load_encoder


class JudgedEncoder(SSLModule):
    """A method's encoder with the weights that its config names, and nothing else: what is beside it has no weights.

    Args:
        method: has the encoder and `ckpt`; without `ckpt` the encoder must be a `pretrained` one.
        verb: for the error.

    Raises:
        MisconfigurationException: the config names no weights, or a file that is no checkpoint.
    """

    def __init__(self, method: SSLModule, verb: str):
        pretrained = getattr(method.encoder, "pretrained", False)
        if not (method.ckpt or pretrained):
            raise MisconfigurationException(
                f"{verb} needs weights, those of the config are random: give --ckpt_path RUN/checkpoints/last.ckpt, or "
                "--model.init_args.ckpt RUN/checkpoints/last.ckpt for its encoder alone"
            )
        if method.ckpt:
            read_checkpoint(Path(method.ckpt), option="model.init_args.ckpt")
        super().__init__(
            method.encoder, method.optimizer, channels_last=method.channels_last, ckpt=method.ckpt
        )
        weights = self.ckpt or "pretrained weights"
        rank_zero_info(
            f"{verb}: no --ckpt_path, so judged is the encoder of {weights}, without the rest of "
            f"{type(method).__name__}, which has learned nothing"
        )

    def load_weights(self, data: LightningDataModule) -> None:
        """Read the encoder of `ckpt`, if there is one."""
        if self.ckpt:
            load_encoder(self.encoder, self.ckpt, data.state_dict())

    def on_validation_start(self) -> None:
        self.load_weights(self.trainer.datamodule)

    on_test_start = on_predict_start = on_validation_start
