"""Numbers that move while a run trains: learning rate, weight decay, a teacher's momentum, temperatures."""

import math
from collections.abc import Callable
from functools import partial

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def move_by_cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start`, at progress 0, to `end`, at 1 and beyond."""
    share = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return start * share + end * (1 - share)


def find_accumulation(trainer: Trainer) -> Callable[[int], int]:
    """Epoch -> how many batches an optimizer step is of, which Lightning's callback may change."""
    for callback in trainer.callbacks:
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches
    return lambda epoch: trainer.accumulate_grad_batches


def count_steps(trainer: Trainer, epochs: float) -> float:
    """Optimizer steps of the first `epochs` epochs: one for each group of accumulated batches, and one for what is left
    at the end of an epoch."""
    batches, accumulation = trainer.num_training_batches, find_accumulation(trainer)
    if not any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
        return epochs * math.ceil(batches / accumulation(0))
    *lengths, last = (math.ceil(batches / accumulation(epoch)) for epoch in range(int(epochs) + 1))
    return sum(lengths) + (epochs - len(lengths)) * last


def count_all_steps(trainer: Trainer) -> float:
    """Optimizer steps of a whole fit; infinite where neither epochs nor steps are limited."""
    steps = math.inf if trainer.max_epochs == -1 else count_steps(trainer, max(trainer.max_epochs, 1))
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def scheduled_value(
    module: LightningModule, start: float, end: float, linear_epochs: float | None = None
) -> float:
    """The value of this optimizer step, the same for all its accumulated batches; `start` outside a fit.

    Args:
        start, end: at the first step, and after the last.
        linear_epochs: move linearly over so many epochs, and stay at `end`; by half a cosine over the run if None.
    """
    trainer = module._trainer
    if trainer is None or not trainer.training:
        return start
    if linear_epochs is None:
        return move_by_cosine(start, end, trainer.global_step / count_all_steps(trainer))
    steps = count_steps(trainer, linear_epochs)
    return end if trainer.global_step >= steps else start + (end - start) * trainer.global_step / steps


def warmup_constant(step: int, warmup: int, total: float) -> float:
    """Factor of the learning rate at `step` (from 0): linear to 1 over `warmup` steps, then 1."""
    return (step + 1) / warmup if step < warmup else 1.0


def warmup_cosine(step: int, warmup: int, total: float) -> float:
    """Factor of the learning rate at `step` (from 0): linear to 1 over `warmup` steps, then half a cosine down to 0.

    Constant after the warm-up where `total` is infinite. Loshchilov & Hutter 2016, https://arxiv.org/abs/1608.03983
    """
    if step < warmup or math.isinf(total):
        return warmup_constant(step, warmup, total)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_step(step: int, warmup: int, total: float) -> float:
    """Factor of the learning rate at `step` (from 0): linear to 1 over `warmup` steps, then 1, from half of all `total`
    steps on 1/10, and from three quarters on 1/100. He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385
    """
    if step < warmup:
        return warmup_constant(step, warmup, total)
    return 0.1 ** ((step >= total / 2) + (step >= 3 * total / 4))


SCHEDULES = {"cosine": warmup_cosine, "constant": warmup_constant, "step": warmup_step}


class WeightDecayLR(LambdaLR):
    """A schedule of the learning rate that also moves weight decay by half a cosine, in the groups that have any.

    Args:
        optimizer: has the weight decay of the start.
        factors: of the learning rate, at each step, for each group.
        total: steps.
        end: weight decay after them.

    Caron et al. 2021, section 3.2, https://arxiv.org/abs/2104.14294
    """

    def __init__(self, optimizer: Optimizer, factors: list[Callable[[int], float]], total: float, end: float):
        self.base_weight_decays = [group["weight_decay"] for group in optimizer.param_groups]
        self.total, self.end = total, end
        super().__init__(optimizer, factors)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        progress = self.last_epoch / max(1, self.total)
        for group, start in zip(self.optimizer.param_groups, self.base_weight_decays, strict=True):
            if start:
                group["weight_decay"] = move_by_cosine(start, self.end, progress)

    def state_dict(self) -> dict:
        """Without what the config says, as a LambdaLR's: a resumed run may be longer."""
        return {k: v for k, v in super().state_dict().items() if k not in ("total", "end")}


def make_schedule(
    optimizer: Optimizer,
    trainer: Trainer,
    name: str,
    warmup_epochs: float,
    weight_decay_end: float | None = None,
) -> LambdaLR:
    """The schedule of a fit, a factor for each optimizer step; after warm-up it stays 1 for groups of `constant_rate`.
    Weight decay stays as it is where its end is None."""
    trainer.fit_loop.setup_data()  # else num_training_batches is unknown where max_epochs is -1
    steps = {"warmup": round(count_steps(trainer, warmup_epochs)), "total": count_all_steps(trainer)}
    factors = [
        partial(SCHEDULES["constant" if group.get("constant_rate") else name], **steps)
        for group in optimizer.param_groups
    ]
    if weight_decay_end is None:
        return LambdaLR(optimizer, factors)
    if not any(group.get("weight_decay") for group in optimizer.param_groups):
        raise MisconfigurationException(
            f"model.init_args.weight_decay_end is {weight_decay_end:g} and the optimizer has no weight decay to start "
            "from: set its weight_decay, or leave weight_decay_end out"
        )
    return WeightDecayLR(optimizer, factors, steps["total"], weight_decay_end)
