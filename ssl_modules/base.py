"""What all methods share, and not one line more."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import Batch
from common.checkpoint import upgrade_checkpoint
from ssl_modules.compiled import compile_networks, compile_requested
from ssl_modules.networks.conv import speed_up_convolutions
from ssl_modules.optim import make_schedule, parameter_groups, scale_learning_rates
from ssl_modules.weights import load_encoder, state_dict_mismatch


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
    """

    monitor = ("val/knn20_top1", "max")  # what best.ckpt follows
    value_range: tuple[float, float] | None = None  # that views must lie in
    trained_encoder = (
        "encoder"  # the network that layer_decay is for; a student's name where `encoder` is a teacher
    )

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable,  # no default: its settings would leak into another class named in a config
        warmup_epochs: float = 0.0,
        schedule: Literal["cosine", "constant", "step"] = "cosine",
        channels_last: bool = True,
        ckpt: str | None = None,
        compile: bool = False,
        layer_decay: float = 1.0,
        weight_decay_end: float | None = None,
    ):
        super().__init__()
        self.encoder, self.optimizer = encoder, optimizer
        self.warmup_epochs, self.schedule = warmup_epochs, schedule
        self.channels_last, self.ckpt = channels_last, ckpt
        self.compile_steps = compile  # `compile` is torch's
        self.layer_decay, self.weight_decay_end = layer_decay, weight_decay_end
        if not (0 < layer_decay <= 1 and (weight_decay_end or 0) >= 0):
            raise MisconfigurationException(
                f"model.init_args: layer_decay is {layer_decay:g} and weight_decay_end {weight_decay_end}: give "
                "layer_decay from above 0 to 1, and weight_decay_end from 0 up, or null"
            )

    def encode(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): what is judged, before any head."""
        return self.encoder(view)

    def gather(self, z: Tensor) -> Tensor:
        """(B, P) on each process -> (N, P) of all, in the order of their ranks, with gradients."""
        if self._trainer is None or self.trainer.world_size == 1:
            return z
        return self.all_gather(z, sync_grads=True).flatten(0, 1)

    def outputs(
        self,
        loss: Tensor,
        features: Tensor | None = None,
        metrics: dict[str, Tensor | float] | None = None,
        count: Tensor | int | None = None,
        **more: Tensor,
    ) -> dict[str, Any]:
        """The step output, of which everything but the loss is detached and float32 (Lightning detaches only the loss).

        Args:
            loss: scalar, the mean over the batch.
            features: (B, D) by the encoder; without them, in training, probes use the bank's.
            metrics: scalars that callbacks average over the epoch beside the loss.
            count: how many examples or labels these are means over; all examples if None.
            more: further entries that callbacks may read, one row an example.
        """
        # a number is filled in on the device: a copy from the host would be waited for
        metrics = {
            name: value.detach()
            if isinstance(value, Tensor)
            else loss.new_full((), value, dtype=torch.float32, requires_grad=False)
            for name, value in {"loss": loss, **(metrics or {})}.items()
        }
        more = ({} if features is None else {"features": features}) | more
        count = len(features) if count is None else count
        return {"loss": loss, "metrics": metrics, "count": count} | {
            k: v.detach().float() for k, v in more.items()
        }

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
        # dropout draws from the global generators, whose state no checkpoint holds; on each process anew
        seed = int(torch.randint(2**62, (), generator=batch.key.generator())) + self.global_rank
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 1 ms where there is no GPU
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

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
        """Raises where the checkpoint's weights are not this module's, naming the keys."""
        upgrade_checkpoint(checkpoint)
        if mismatch := state_dict_mismatch(self.state_dict(), checkpoint["state_dict"]):
            raise MisconfigurationException(
                f"the checkpoint does not fit this {type(self).__name__}: {mismatch}. "
                "Use the config.yaml of the run that it comes from"
            )

    def parameter_groups(self) -> list[dict]:
        """What the optimizer is given."""
        return parameter_groups(self, self.get_submodule(self.trained_encoder), self.layer_decay)

    def configure_optimizers(self) -> dict[str, Any]:
        try:
            optimizer = self.optimizer(self.parameter_groups())
        except (TypeError, ValueError) as error:  # what torch says of options out of range or missing
            raise MisconfigurationException(f"model.init_args.optimizer: {error}") from error
        scale_learning_rates(optimizer)
        schedule = make_schedule(
            optimizer, self.trainer, self.schedule, self.warmup_epochs, self.weight_decay_end
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
