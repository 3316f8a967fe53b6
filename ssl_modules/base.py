"""What all methods share, and not one line more."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from ssl_modules.optim import parameter_groups, warmup_cosine


class SSLModule(LightningModule):
    """An encoder, an optimizer with warm-up and cosine schedule, and the step output that every callback reads.

    Args:
        encoder: has `dim`, and turns a view into features (B, dim).
        optimizer: any torch optimizer, called with parameter groups; norms and biases get no weight decay.
        warmup_epochs: the learning rate rises linearly over so many epochs, then falls to 0 as half a cosine.
        channels_last: memory format of the weights, and with them of all activations of convolutions.
    """

    monitor = ("val/knn20_top1", "max")  # what best.ckpt follows
    num_views = 1  # how many views the method needs in training

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        warmup_epochs: float = 0.0,
        channels_last: bool = True,
    ):
        super().__init__()
        self.encoder = encoder
        self.optimizer = optimizer
        self.warmup_epochs = warmup_epochs
        self.channels_last = channels_last
        self.mean_loss = (
            MeanMetric()
        )  # in the checkpoint, so that a resumed epoch's mean is the whole epoch's
        self.mean_loss.persistent(True)

    def encode(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): what is judged, before any head."""
        return self.encoder(view)

    def gather(self, z: Tensor) -> Tensor:
        """(B, P) on each process -> (N, P) of all, in the order of their ranks, with gradients."""
        if self._trainer is None or self.trainer.world_size == 1:
            return z
        return self.all_gather(z, sync_grads=True).flatten(0, 1)

    def setup(self, stage: str) -> None:
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def on_fit_start(self) -> None:
        recipes = len(self.trainer.datamodule.views)
        if recipes != self.num_views:
            raise MisconfigurationException(
                f"{type(self).__name__} needs {self.num_views} views of an image, the data config has {recipes}: "
                f"give data.init_args.views {self.num_views} recipes"
            )
        rank_zero_info(self.start_line())

    def start_line(self) -> str:
        """One line that says what the run's numbers come down to."""
        trainer = self.trainer
        batch, accumulate = trainer.datamodule.batch_size, trainer.accumulate_grad_batches
        optimizer = trainer.optimizers[0]
        return (
            f"{type(self).__name__}: batch {batch * trainer.world_size * accumulate} ({batch} a process, "
            f"{trainer.world_size} processes, {accumulate} accumulated); {type(optimizer).__name__}, learning rate "
            f"{optimizer.param_groups[0]['initial_lr']:g}; batch norm over {self.batch_norm_scope()}"
        )

    def batch_norm_scope(self) -> str:
        modules = list(self.encoder.modules())
        if any(isinstance(m, nn.SyncBatchNorm) for m in modules):
            return "all processes"
        batch_norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules)
        return "each process alone" if batch_norms else "nothing (the encoder has none)"

    def report(self, loss: Tensor, features: Tensor, **more: Tensor) -> dict[str, Any]:
        """Log the loss, and hand callbacks what they read: detached, float32 (Lightning detaches only the loss)."""
        self.mean_loss.update(loss.detach())
        trainer = self._trainer  # None where a step is called by hand
        if (
            trainer and (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        ):  # a log costs 0.6 ms: not each step
            self.log("train/loss_step", loss.detach(), prog_bar=True)
            self.log("lr", trainer.optimizers[0].param_groups[0]["lr"])
        more = {name: tensor.detach().float() for name, tensor in more.items()}
        return {"loss": loss, "features": features.detach().float(), **more}

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.mean_loss.compute())
        self.mean_loss.reset()

    def validation_step(self, batch: tuple, batch_idx: int) -> dict[str, Any]:
        (view, *_), *_ = batch
        return {"features": self.encode(view).float()}

    def test_step(self, batch: tuple, batch_idx: int) -> dict[str, Any]:
        return self.validation_step(batch, batch_idx)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises where the checkpoint's weights are not this module's, naming the keys."""
        own, found = self.state_dict(), checkpoint["state_dict"]
        wrong = {
            "missing": own.keys() - found.keys(),
            "unknown": found.keys() - own.keys(),
            "of another shape": [k for k in own.keys() & found.keys() if own[k].shape != found[k].shape],
        }
        if any(wrong.values()):
            said = (
                f"{len(keys)} {how} ({', '.join(sorted(keys)[:3])})" for how, keys in wrong.items() if keys
            )
            raise MisconfigurationException(
                f"the checkpoint does not fit this {type(self).__name__}: {'; '.join(said)}. "
                "Use the config.yaml of the run that it comes from"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(parameter_groups(self))
        total = self.trainer.estimated_stepping_batches
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        warmup = round(self.warmup_epochs * batches)
        schedule = LambdaLR(optimizer, partial(warmup_cosine, warmup=warmup, total=total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
