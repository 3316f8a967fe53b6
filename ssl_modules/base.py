"""What all methods share, and not one line more."""

import copy
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from common.batch import Batch
from common.checkpoint import upgrade_checkpoint
from common.ranges import NonNegativeFloat, PositiveInt, PositiveShare
from ssl_modules.compiled import compile_networks, compile_requested
from ssl_modules.micro_batch import encode_in_parts
from ssl_modules.networks.conv import speed_up_convolutions
from ssl_modules.optim import build_optimizer, parameter_groups
from ssl_modules.schedules import make_schedule
from ssl_modules.steps import gather_rows, make_outputs, seed_generators
from ssl_modules.views import encode_view_tokens, encode_views
from ssl_modules.weights import check_weights, load_encoder


class SSLModule(LightningModule):
    """Subclasses write `training_step(batch, batch_idx)` and return `self.outputs(loss, features, ...)`.

    A step only computes: it logs and counts nothing, and may be called at any time on any batch.

    Args:
        encoder: has `dim`, and turns a view into features (B, dim).
        optimizer: any torch optimizer, called with parameter groups; norms and biases get no weight decay.
        warmup_epochs: the learning rate rises linearly over so many epochs, then follows the schedule.
        schedule: half a `cosine` down to 0, `constant`, or a tenth after 1/2 and again after 3/4 of the steps (`step`).
        channels_last: memory format of the weights, and with them of all activations of convolutions.
        ckpt: a checkpoint of any method, whose encoder this one starts from.
        compile: let torch.compile fuse the networks for training steps; the first step is slow, up to some minutes.
        layer_decay: every layer of the encoder has the learning rate of the layer after it, times this; what comes
            after the encoder has the optimizer's.
        weight_decay_end: what weight decay moves to by half a cosine over the run; it stays the optimizer's if None.
        micro_batch: views that the encoder reads at a time, so that a large batch fits into memory, for the time of one
            more forward pass; the loss still compares the whole batch. Batch norm sees these views alone.
    """

    monitor = ("val/knn20_top1", "max")  # what best.ckpt follows
    value_range: tuple[float, float] | None = None  # that views must lie in
    trained_encoder = "encoder"  # what layer_decay is for: a student's name where `encoder` is a teacher
    gather, encode_in_parts = gather_rows, encode_in_parts
    encode_views, encode_view_tokens = encode_views, encode_view_tokens
    outputs = staticmethod(make_outputs)

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable,  # no default: its settings would leak into another class named in a config
        warmup_epochs: NonNegativeFloat = 0.0,
        schedule: Literal["cosine", "constant", "step"] = "cosine",
        channels_last: bool = True,
        ckpt: str | None = None,
        compile: bool = False,
        layer_decay: PositiveShare = 1.0,
        weight_decay_end: NonNegativeFloat | None = None,
        micro_batch: PositiveInt | None = None,
    ):
        super().__init__()
        self.encoder, self.optimizer = encoder, optimizer
        self.warmup_epochs, self.schedule = warmup_epochs, schedule
        self.channels_last, self.ckpt = channels_last, ckpt
        self.compile_steps = compile  # `compile` is torch's
        self.layer_decay, self.weight_decay_end = layer_decay, weight_decay_end
        self.micro_batch = micro_batch

    def __deepcopy__(self, memo: dict) -> "SSLModule":
        """A copy shares the factory of optimizers, which jsonargparse makes so that it cannot be copied."""
        memo[id(self.optimizer)] = self.optimizer
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def encode(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): what is judged, before any head."""
        return self.encode_in_parts(self.encoder, view)

    def setup(self, stage: str) -> None:
        speed_up_convolutions(self)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def check_views(self, recipes: list) -> str | None:
        """What the method needs of a training batch's views, in words, where they are not of that kind; else None.

        Args:
            recipes: how each view is made, with its `size`; of text a single one.
        """
        return None if len(recipes) == 1 else "exactly one view"

    def on_encoder_loaded(self) -> None:
        """Copies of the encoder take its weights here: after `ckpt` was read, or at the start; never on resume."""

    def on_fit_start(self) -> None:
        if not self.trainer.ckpt_path:  # a resumed run has its own weights
            if self.ckpt:
                load_encoder(self.encoder, self.ckpt, self.trainer.datamodule.state_dict())
            self.on_encoder_loaded()
        if compile_requested(self):
            compile_networks(self, self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seed_generators(batch.key, self.global_rank, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return {"features": self.encode(batch.views[0]).float()}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Features (B, D), float32."""
        return self.encode(batch.views[0]).float()

    def describe(self, images: int, note: str) -> str:
        """What the run's summary line adds, of batches of `images` on all processes; `note` goes after how many of them
        are compared with each other, which accumulation does not change."""
        return ""

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        upgrade_checkpoint(checkpoint)
        check_weights(self, checkpoint["state_dict"])

    def parameter_groups(self) -> list[dict]:
        """What the optimizer is given."""
        return parameter_groups(self, self.get_submodule(self.trained_encoder), self.layer_decay)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = build_optimizer(self.optimizer, self.parameter_groups())
        schedule = self.schedule, self.warmup_epochs, self.weight_decay_end
        scheduler = make_schedule(optimizer, self.trainer, *schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
