"""The callback that writes checkpoints/{last,previous,best}.ckpt, each at once or not at all."""

import math
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.checkpointing.checkpoint_file import DirectCheckpointIO, link_or_rename
from common.files import atomic_write
from common.ranges import PositiveInt


def list_kept_checkpoints(folder: Path) -> list[Path]:
    """The `epoch=N.ckpt` in a folder, oldest first."""
    numbered = {path.stem.removeprefix("epoch="): path for path in folder.glob("epoch=*.ckpt")}
    return [numbered[n] for n in sorted(filter(str.isdigit, numbered), key=int)]


class Checkpoints(Checkpoint):
    """Saves `last` at each epoch's start, every so many steps and at the end, `best` by the module's `monitor`.

    A checkpoint is taken before a step's batch is used, when all that came before is done and logged: resuming from it
    is the same as never having stopped. `previous` is the `last` before. Nothing is saved once a loss was not finite.

    Args:
        every_n_steps: optimizer steps between two saves inside an epoch.
        keep_every_n_epochs: also keep `epoch=N.ckpt`, after N epochs.
    """

    def __init__(self, every_n_steps: PositiveInt = 500, keep_every_n_epochs: PositiveInt | None = None):
        self.every_n_steps, self.keep_every_n_epochs = every_n_steps, keep_every_n_epochs
        self.best: float | None = None
        self.has_told = False
        self.saved_step = -1
        self.folder = Path("checkpoints")
        self.loggers: list[Logger] = []

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.folder = Path(trainer.strategy.broadcast(trainer.default_root_dir)) / "checkpoints"
        self.loggers = trainer.loggers
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = DirectCheckpointIO()
        # of the first loss that was not finite, and which of its terms were not
        self.bad_step = torch.tensor(-1, device=trainer.strategy.root_device)
        self.bad_terms: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.saved_step = trainer.global_step
        for logger in trainer.loggers:
            if hasattr(logger, "rewind_to"):  # a crash came later than the checkpoint, or before the first
                logger.rewind_to(trainer.global_step)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        # Lightning adds 1 on a restart in mid-epoch, since its own checkpoints are taken before it does
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        step = trainer.global_step
        due = batch_idx == 0 or (
            step % self.every_n_steps == 0 and batch_idx % trainer.accumulate_grad_batches == 0
        )
        if due and step != self.saved_step:
            self.save_last(trainer)
            if batch_idx == 0:
                self.keep_epoch(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        bad = ~outputs["loss"].isfinite() & (self.bad_step < 0)
        for name, value in outputs["metrics"].items():  # the loss itself is among them
            before = self.bad_terms.get(name, torch.zeros_like(bad))
            self.bad_terms[name] = torch.where(bad, ~value.isfinite(), before)
        self.bad_step = torch.where(bad, trainer.global_step, self.bad_step)
        # looking at the value waits for a GPU: only now and then
        if self.bad_step.device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0:
            self.stop_if_not_finite(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        name, mode = module.monitor
        value = float(trainer.callback_metrics.get(name, math.nan))
        if not math.isfinite(value):
            self.tell_unmeasured(trainer, name)
            return
        if self.best is None or (value > self.best if mode == "max" else value < self.best):
            self.best = value
            self.write_checkpoint(trainer, "best.ckpt")

    def tell_unmeasured(self, trainer: Trainer, name: str) -> None:
        """Say in the first validation that there is nothing to choose the best by."""
        if self.best is None and not self.has_told:
            reason = "is not finite" if name in trainer.callback_metrics else "was not measured"
            rank_zero_info(f"no best.ckpt yet, since {name} {reason}; last.ckpt is kept")
            self.has_told = True

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.save_last(trainer)
        self.keep_epoch(trainer)

    def save_last(self, trainer: Trainer) -> None:
        self.stop_if_not_finite(trainer)
        self.write_checkpoint(trainer, "last.ckpt", previous="previous.ckpt")
        self.saved_step = trainer.global_step

    def write_checkpoint(self, trainer: Trainer, name: str, previous: str | None = None) -> None:
        target = self.folder / name
        # every process takes part in the save, the first one alone writes
        with atomic_write(target) if trainer.is_global_zero else nullcontext(target) as temporary:
            try:
                # as Lightning means it: with the states of optimizers and callbacks
                trainer.save_checkpoint(temporary, weights_only=False)
                if trainer.is_global_zero:
                    with open(temporary, "rb") as file:
                        os.fsync(file.fileno())
                    if previous and target.exists():
                        link_or_rename(target, self.folder / previous)
            except OSError as error:
                error.filename = error.filename or temporary
                raise

    @rank_zero_only
    def keep_epoch(self, trainer: Trainer) -> None:
        """Keep a copy of `last`, just written, as `epoch=N.ckpt` where it is the turn of this epoch."""
        if not self.keep_every_n_epochs or trainer.current_epoch % self.keep_every_n_epochs:
            return
        last = self.folder / "last.ckpt"
        with atomic_write(self.folder / f"epoch={trainer.current_epoch}.ckpt") as temporary:
            try:
                os.link(last, temporary)
            except OSError:  # a disk without links
                shutil.copyfile(last, temporary)

    def stop_if_not_finite(self, trainer: Trainer) -> None:
        # of any process: all of them stop
        step = int(trainer.strategy.reduce(self.bad_step.clone(), reduce_op="max"))
        if step >= 0:
            last = self.folder / "last.ckpt"
            terms = [name for name in self.bad_terms if self.is_bad_anywhere(trainer, name)]
            which = f" ({', '.join(terms)})" if terms else ""
            good = "no checkpoint yet"
            if last.exists():
                good = f"{last} (step {self.saved_step}) is the last good checkpoint"
            raise MisconfigurationException(
                f"the loss was not finite in step {step}{which}: training stopped; {good}. "
                "Try a lower learning rate, a longer warm-up, or --trainer.precision 32-true"
            )

    def is_bad_anywhere(self, trainer: Trainer, name: str) -> bool:
        """Whether a term of the first loss that was not finite was not finite itself, on any process."""
        value = self.bad_terms[name].float()
        return name != "loss" and bool(trainer.strategy.reduce(value, reduce_op="max"))

    def state_dict(self) -> dict:
        """The best value, and W&B's id of the run, which a resumed run joins."""
        ids = [logger.version for logger in self.loggers if isinstance(logger, WandbLogger)]
        return {"best": self.best, "wandb": ids[0] if ids else None}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]
