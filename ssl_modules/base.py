"""What all methods share, and not one line more."""

from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from ssl_modules.compiled import compile_networks
from ssl_modules.networks.conv import speed_up_convolutions
from ssl_modules.optim import parameter_groups, warmup_cosine
from ssl_modules.weights import load_encoder, misfit


class Mean(MeanMetric):
    """A mean that does not look for NaN at each update, which waits for a GPU; NaN makes it NaN."""

    def update(self, value: Tensor, weight: Tensor | int) -> None:
        self.mean_value += value.float() * weight
        self.weight += weight


class SSLModule(LightningModule):
    """An encoder, an optimizer with warm-up and cosine schedule, and the step output that every callback reads.

    Args:
        encoder: has `dim`, and turns a view into features (B, dim).
        optimizer: any torch optimizer, called with parameter groups; norms and biases get no weight decay.
        warmup_epochs: the learning rate rises linearly over so many epochs, then falls to 0 as half a cosine.
        channels_last: memory format of the weights, and with them of all activations of convolutions.
        ckpt: a checkpoint of any method, whose encoder this one starts from.
        compile: let torch.compile fuse the networks for training steps (a compiler is needed; the first step is slow,
            up to some minutes, and on CPUs the others are hardly faster).
    """

    monitor = ("val/knn20_top1", "max")  # what best.ckpt follows
    num_views = 1  # how many views the method needs in training
    value_range: tuple[float, float] | None = None  # that views must lie in

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable,  # no default: its settings would leak into another class named in a config
        warmup_epochs: float = 0.0,
        channels_last: bool = True,
        ckpt: str | None = None,
        compile: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        self.optimizer = optimizer
        self.warmup_epochs = warmup_epochs
        self.channels_last = channels_last
        self.ckpt = ckpt
        self.asked_to_compile = compile  # `compile` is torch's
        self.means = nn.ModuleDict()
        self.measure("loss")

    def measure(self, *names: str) -> None:
        """Declare what `report` is given: each is logged as its mean over an epoch, `SPLIT/NAME`."""
        for key in (f"{split}/{name}" for split in ("train", "val", "test") for name in names):
            self.means[key] = Mean()
            self.means[key].persistent(True)  # a resumed epoch's mean is the whole epoch's

    def encode(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): what is judged, before any head."""
        return self.encoder(view)

    def gather(self, z: Tensor) -> Tensor:
        """(B, P) on each process -> (N, P) of all, in the order of their ranks, with gradients."""
        if self._trainer is None or self.trainer.world_size == 1:
            return z
        return self.all_gather(z, sync_grads=True).flatten(0, 1)

    def setup(self, stage: str) -> None:
        speed_up_convolutions(self)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def on_fit_start(self) -> None:
        recipes = len(self.trainer.datamodule.views)
        if recipes != self.num_views:
            raise MisconfigurationException(
                f"{type(self).__name__} needs {self.num_views} views of an image, the data config has {recipes}: "
                f"give data.init_args.views {self.num_views} recipes"
            )
        if self.device.type == "cpu" and any(isinstance(m, nn.SyncBatchNorm) for m in self.modules()):
            raise MisconfigurationException(
                "trainer.sync_batchnorm: torch has batch norms across processes on GPUs alone; leave it out, or give "
                "the encoder group norms"
            )
        if self.ckpt and not self.trainer.ckpt_path:  # a resumed run has its own weights
            load_encoder(self.encoder, self.ckpt, self.trainer.datamodule.state_dict())
        if self.compiled():
            compile_networks(self, self.device)
        rank_zero_info(self.start_line())

    def on_train_batch_start(self, batch: tuple, batch_idx: int) -> None:
        # dropout draws from the global generators, whose state no checkpoint holds; on each process anew
        seed = int(torch.randint(2**62, (), generator=self.noise(batch[3]))) + self.global_rank
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 1 ms where there is no GPU
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)
        if self.value_range and self.current_epoch == batch_idx == 0:
            (low, high), (view, *_) = self.value_range, batch[0]
            if view.min() < low - 1e-4 or view.max() > high + 1e-4:
                raise MisconfigurationException(
                    f"{type(self).__name__} needs views in [{low:g}, {high:g}], the first batch is in "
                    f"[{view.min():.2f}, {view.max():.2f}]: set data.init_args.mean to [{(0 - low) / (high - low):g}] "
                    f"and std to [{1 / (high - low):g}]"
                )

    def start_line(self) -> str:
        """One line that says what the run's numbers come down to."""
        trainer = self.trainer
        batch, accumulate = trainer.datamodule.batch_size, trainer.accumulate_grad_batches
        optimizer = trainer.optimizers[0]
        slow = "; compiled, which makes the first step slow, up to some minutes" if self.compiled() else ""
        return (
            f"{type(self).__name__}: batch {batch * trainer.world_size * accumulate} ({batch} a process, "
            f"{trainer.world_size} processes, {accumulate} accumulated); {type(optimizer).__name__}, learning rate "
            f"{optimizer.param_groups[0]['initial_lr']:g}; batch norm over {self.batch_norm_scope()}{slow}"
        )

    def compiled(self) -> bool:
        """Whether training steps are; a frozen encoder, which may run only once, is left as it is."""
        return self.asked_to_compile and any(p.requires_grad for p in self.encoder.parameters())

    def of_batch(self) -> str:
        """What to add to a number of images that are compared with each other."""
        return " (accumulation adds none)" if self.trainer.accumulate_grad_batches > 1 else ""

    def batch_norm_scope(self) -> str:
        modules = list(self.encoder.modules())
        if any(isinstance(m, nn.SyncBatchNorm) for m in modules):
            return "all processes"
        batch_norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules)
        return "each process alone" if batch_norms else "nothing (the encoder has none)"

    def noise(self, key: int) -> torch.Generator:
        """The method's own luck in a batch: a function of the batch's key, the same on all processes; see `share`."""
        return torch.Generator().manual_seed(int(np.random.SeedSequence([key, 0]).generate_state(1)[0]))

    def share(self, count: int) -> tuple[int, slice]:
        """For luck that each image has its own of: how many rows to draw, for the batch of all processes, and which of
        them belong to the `count` images here. The loader deals a training batch out in blocks, others in turns.
        """
        if self._trainer is None:
            return count, slice(count)
        rank, world = self.global_rank, self.trainer.world_size
        if self.training:
            return world * count, slice(rank * count, (rank + 1) * count)
        # also where the last batch is smaller: a row is to have the same luck whatever the number of processes
        return world * self.trainer.datamodule.batch_size, slice(rank, rank + world * count, world)

    def split(self) -> str:
        """Which split a step's batch is from."""
        if self.training:
            return "train"
        return "test" if self._trainer and self.trainer.testing else "val"

    def report(
        self,
        loss: Tensor,
        features: Tensor,
        measures: dict[str, Tensor] | None = None,
        count: Tensor | None = None,
        **more: Tensor,
    ) -> dict[str, Any]:
        """Note the loss and other measures, and hand callbacks what they read.

        Args:
            loss: scalar, the mean over the batch.
            features: (B, D).
            measures: scalars to log beside the loss, of names declared with `measure`.
            count: how many examples or labels these are means over; all examples if None.
            more: the step output's other entries, one row an example.

        Returns:
            The step output; everything but the loss detached and float32 (Lightning detaches only the loss).
        """
        measures = {"loss": loss, **(measures or {})}
        weight = len(features) if count is None else count
        for name, value in measures.items():
            self.means[f"{self.split()}/{name}"].update(value.detach(), weight)
        trainer = self._trainer  # None where a step is called by hand
        due = trainer and self.training and (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        if due and weight > 0:
            for name, value in measures.items():  # a log costs 0.6 ms: not each step
                self.log(f"train/{name}_step", value.detach(), prog_bar=name == "loss", sync_dist=True)
            self.log("lr", trainer.optimizers[0].param_groups[0]["lr"])
        more = {name: tensor.detach().float() for name, tensor in more.items()}
        return {"loss": loss, "features": features.detach().float(), **more}

    def log_means(self, split: str) -> None:
        """Nothing is logged of a split that has no label for what is measured."""
        for name, mean in self.means.items():
            if name.startswith(split) and mean.update_called:
                if self.trainer.strategy.reduce(mean.weight.clone(), reduce_op="sum") > 0:
                    self.log(name, mean.compute())
                mean.reset()

    def on_train_epoch_end(self) -> None:
        if not self.validates_by_steps():
            self.log_means("train")

    def on_validation_epoch_end(self) -> None:
        self.log_means("val")
        if self.validates_by_steps():
            self.log_means("train")  # since the last time, so that both curves have the same points

    def validates_by_steps(self) -> bool:
        """Whether validations come every so many batches, whatever the epoch, and have begun to."""
        trainer = self.trainer
        batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        return trainer.check_val_every_n_epoch is None and batches >= (trainer.val_check_batch or 0)

    def on_test_epoch_end(self) -> None:
        self.log_means("test")

    def validation_step(self, batch: tuple, batch_idx: int) -> dict[str, Any]:
        (view, *_), *_ = batch
        return {"features": self.encode(view).float()}

    def test_step(self, batch: tuple, batch_idx: int) -> dict[str, Any]:
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """Features (B, D), float32."""
        (view, *_), *_ = batch
        return self.encode(view).float()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """The sums of an unfinished epoch are those of all processes."""
        weights = checkpoint["state_dict"]
        sums = {name: weights[name] for name in weights if name.startswith("means.")}
        total = self.trainer.strategy.reduce(torch.stack([*sums.values()]), reduce_op="sum")
        weights.update(zip(sums, total.unbind(), strict=True))

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises where the checkpoint's weights are not this module's, naming the keys.

        What an older version measured is left out, and what it did not measure starts anew.
        """
        own, found = self.state_dict(), checkpoint["state_dict"]
        weights = {k: v for k, v in found.items() if not k.startswith("means.")}
        weights |= {k: found.get(k, v) for k, v in own.items() if k.startswith("means.")}
        if wrong := misfit(own, weights):
            raise MisconfigurationException(
                f"the checkpoint does not fit this {type(self).__name__}: {wrong}. "
                "Use the config.yaml of the run that it comes from"
            )
        checkpoint["state_dict"] = weights
        if self._trainer and self.global_rank:  # the first process goes on with the sums of all
            weights.update({k: torch.zeros_like(v) for k, v in weights.items() if k.startswith("means.")})

    def parameter_groups(self) -> list[dict]:
        """What the optimizer is given."""
        return parameter_groups(self)

    def configure_optimizers(self) -> dict[str, Any]:
        try:
            optimizer = self.optimizer(self.parameter_groups())
        except (TypeError, ValueError) as error:  # what torch says of options out of range or missing
            raise MisconfigurationException(f"model.init_args.optimizer: {error}") from error
        self.trainer.fit_loop.setup_data()  # else num_training_batches is unknown where max_epochs is -1
        total = self.trainer.estimated_stepping_batches
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        warmup = round(self.warmup_epochs * batches)
        schedule = LambdaLR(optimizer, partial(warmup_cosine, warmup=warmup, total=total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
