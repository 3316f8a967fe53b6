"""What the optimizer sees and how its learning rate moves."""

import math
from functools import partial

from lightning.pytorch import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(module: nn.Module) -> list[dict]:
    """Trainable parameters in two groups: matrices and kernels, which decay, and norms and biases, which do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    decay, no_decay = ([p for p in parameters if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": decay}, {"params": no_decay, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


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


def make_schedule(optimizer: Optimizer, trainer: Trainer, name: str, warmup_epochs: float) -> LambdaLR:
    """The schedule of a fit, a factor for each optimizer step."""
    trainer.fit_loop.setup_data()  # else num_training_batches is unknown where max_epochs is -1
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    steps = {"warmup": round(warmup_epochs * batches), "total": trainer.estimated_stepping_batches}
    return LambdaLR(optimizer, partial(SCHEDULES[name], **steps))
