"""Before training: do method, data and devices fit each other? And one line that says what the run comes to."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.batch import Batch
from common.text import plural
from launch.class_counts import report_class_counts
from ssl_modules.base import SSLModule
from ssl_modules.compiled import compile_requested
from ssl_modules.networks.split_batch_norm import SplitBatchNorm2d
from ssl_modules.schedules import find_accumulation


class Preflight(Callback):
    """Refuses a run that cannot work, in one line, and prints the run's summary line. Launch puts it in."""

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        check_encode(module)
        if stage == "fit":
            check_changes(trainer)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        check_views(module, trainer.datamodule.recipes)
        check_batch_norm(module)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        rank_zero_info(summary_line(trainer, module))
        report_class_counts(trainer.datamodule)

    def on_train_batch_start(self, trainer, module, batch: Batch, batch_idx: int) -> None:
        # Lightning's callback forgets to where a run goes on in mid-epoch
        trainer.accumulate_grad_batches = find_accumulation(trainer)(trainer.current_epoch)
        if module.value_range and trainer.current_epoch == batch_idx == 0:
            check_value_range(module, batch.views[0])


def check_encode(module: LightningModule) -> None:
    """Raises where a method has an `encode` of its own, which no callback and no export would follow."""
    if type(module).encode is not SSLModule.encode:
        raise MisconfigurationException(
            f"{type(module).__name__} overrides encode, and what is judged and exported is its encoder: "
            "put what encode does into the forward of model.init_args.encoder"
        )


def check_changes(trainer: Trainer) -> None:
    """Raises where a callback would change what the schedule is made from and config.yaml says."""
    for callback in trainer.callbacks:
        name = type(callback).__name__
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise MisconfigurationException(
                f"{name} changes the run once its schedule is made and its config.yaml written: leave it out, and give "
                "data.init_args.batch_size and the optimizer's lr"
            )
        if isinstance(callback, GradientAccumulationScheduler) and trainer.accumulate_grad_batches != 1:
            raise MisconfigurationException(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches} and {name} sets it, too: "
                "leave one of them out"
            )


def check_views(module: LightningModule, recipes: list) -> None:
    """Raises where the data config has other views than the method needs."""
    if need := module.check_views(recipes):
        sizes = [f"{recipe.size} px" for recipe in recipes if hasattr(recipe, "size")]  # a text has none
        count = plural(len(recipes), "view") + (f" ({', '.join(sizes)})" if sizes else "")
        raise MisconfigurationException(
            f"{type(module).__name__} needs {need}, the data config has {count}: give the recipes of "
            "data.init_args.views their `copies` and `size`"
        )


def check_batch_norm(module: LightningModule) -> None:
    """Raises where batch norm is to average over processes on CPUs."""
    if module.device.type == "cpu" and any(isinstance(m, nn.SyncBatchNorm) for m in module.modules()):
        raise MisconfigurationException(
            "trainer.sync_batchnorm: torch has batch norms across processes on GPUs alone; leave it out, or give "
            "the encoder group norms"
        )


def check_value_range(module: LightningModule, view: torch.Tensor) -> None:
    """Raises where a view (B, C, H, W) has values that the method cannot draw."""
    low, high = module.value_range
    if view.min() < low - 1e-4 or view.max() > high + 1e-4:
        raise MisconfigurationException(
            f"{type(module).__name__} needs views in [{low:g}, {high:g}], the first batch is in "
            f"[{view.min():.2f}, {view.max():.2f}]: set data.init_args.mean to [{(0 - low) / (high - low):g}] "
            f"and std to [{1 / (high - low):g}]"
        )


def summary_line(trainer: Trainer, module: LightningModule) -> str:
    """What the run's numbers come to: batch, optimizer, learning rate, batch norm, and what the method adds."""
    world, accumulated = trainer.world_size, find_accumulation(trainer)(trainer.current_epoch)
    batch, optimizer = trainer.datamodule.batch_size, trainer.optimizers[0]
    note = " (accumulation adds none)" if accumulated > 1 else ""
    parts = [
        f"{type(module).__name__}: batch {batch * world * accumulated} ({batch} a process, {world} processes, "
        f"{accumulated} accumulated)",
        f"{type(optimizer).__name__}, learning rate {optimizer.param_groups[0]['initial_lr']:g}",
        f"batch norm over {batch_norm_scope(module)}",
        "compiled, which makes the first step slow, up to some minutes" if compile_requested(module) else "",
        module.describe(batch * world, note),
    ]
    return "; ".join(filter(None, parts))


def batch_norm_scope(module: LightningModule) -> str:
    """What the encoder's batch norms average over in training."""
    layers = [m for m in module.encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return "nothing (the encoder has none)"
    if not any(layer.training for layer in layers):
        return f"nothing (frozen, its statistics {statistics_origin(module)})"
    if any(isinstance(layer, nn.SyncBatchNorm) for layer in layers):
        return "all processes"
    if groups := next((m.groups for m in layers if isinstance(m, SplitBatchNorm2d)), None):
        return f"{groups} parts of the batch"
    if module.micro_batch:
        return f"{module.micro_batch} images of each process"
    return "each process alone"


def statistics_origin(module: LightningModule) -> str:
    """Where the statistics of frozen batch norms come from."""
    if module.ckpt:
        return "those of the checkpoint"
    if getattr(module.encoder, "pretrained", False):
        return "those of pretrained weights"
    return "as initialized: mean 0, variance 1"
