"""Numbers that move while a run trains: a teacher's momentum, temperatures, weight decay."""

import math

from lightning.pytorch import LightningModule


def move_by_cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start`, at progress 0, to `end`, at 1 and beyond."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def scheduled_value(
    module: LightningModule, start: float, end: float, linear_epochs: float | None = None
) -> float:
    """The value of this optimizer step, the same for all its accumulated batches; `start` without a Trainer.

    Args:
        start, end: at the first step, and after the last.
        linear_epochs: move linearly over so many epochs, and stay at `end`; by half a cosine over the run if None.
    """
    trainer = module._trainer
    if trainer is None:
        return start
    if linear_epochs is None:
        return move_by_cosine(start, end, trainer.global_step / trainer.estimated_stepping_batches)
    steps = linear_epochs * trainer.num_training_batches / trainer.accumulate_grad_batches
    return end if trainer.global_step >= steps else start + (end - start) * trainer.global_step / steps
