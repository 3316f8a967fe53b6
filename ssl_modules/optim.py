"""What the optimizer sees and how its learning rate moves."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(
    module: nn.Module, encoder: nn.Module | None = None, layer_decay: float = 1.0
) -> list[dict]:
    """Trainable parameters in two groups: matrices and kernels, which decay, and norms and biases, which do not.

    Parameters that a network names in `no_weight_decay()` do not decay either.

    Args:
        module: whose parameters.
        encoder: the part of it that `layer_decay` is for.
        layer_decay: of L layers, the l-th from 0 has two groups of its own with the `lr_scale` layer_decay^(L - l), for
            `scale_learning_rates`; groups of what is not in the encoder come first and have none.

    Bao et al. 2021, https://arxiv.org/abs/2106.08254
    """
    undecayed = find_undecayed(module)
    depths = {} if encoder is None or layer_decay == 1 else measure_depths(encoder)
    if depths and not any(p.requires_grad for p in depths):
        raise MisconfigurationException(
            f"model.init_args.layer_decay is {layer_decay:g} and the encoder does not learn: leave it out"
        )
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for p in module.parameters():
        if p.requires_grad:
            groups.setdefault((depths.get(p, 0), p.ndim < 2 or p in undecayed), []).append(p)
    return [
        {"params": groups[depth, no_decay]}
        | ({"weight_decay": 0.0} if no_decay else {})
        | ({"lr_scale": layer_decay**depth} if depth else {})
        for depth, no_decay in sorted(groups)
    ]


def find_undecayed(module: nn.Module) -> set[nn.Parameter]:
    """Find the parameters that networks in a module name in `no_weight_decay()`, where `*` stands for anything."""
    return {
        parameter
        for network in module.modules()
        if hasattr(network, "no_weight_decay")
        for pattern in network.no_weight_decay()
        for name, parameter in network.named_parameters()
        if fnmatchcase(name, pattern)
    }


def measure_depths(encoder: nn.Module) -> dict[nn.Parameter, int]:
    """Count the layers from each parameter up to what comes after the encoder, from 1.

    Layers are those of the encoder's `group_matcher`, as in timm, or else twelve parameters each, in their order.
    """
    if hasattr(encoder, "group_matcher"):
        from timm.models import group_parameters  # takes a second to import

        layers = group_parameters(encoder, encoder.group_matcher(), reverse=True)
    else:
        layers = {name: i // 12 for i, (name, _) in enumerate(encoder.named_parameters())}
    count = 1 + max(layers.values())
    return {parameter: count - layers[name] for name, parameter in encoder.named_parameters()}


def scale_learning_rates(optimizer: Optimizer) -> None:
    """Multiply each group's learning rate by its `lr_scale`, which torch's optimizers do not read."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.pop("lr_scale", 1)


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
        factor: of the learning rate, at each step.
        total: steps.
        end: weight decay after them.

    Caron et al. 2021, section 3.2, https://arxiv.org/abs/2104.14294
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float], total: float, end: float):
        self.base_weight_decays = [group["weight_decay"] for group in optimizer.param_groups]
        self.total, self.end = total, end
        super().__init__(optimizer, factor)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        rest = 0.5 * (1 + math.cos(math.pi * min(1.0, self.last_epoch / max(1, self.total))))
        for group, start in zip(self.optimizer.param_groups, self.base_weight_decays, strict=True):
            if start:
                group["weight_decay"] = start * rest + self.end * (1 - rest)

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
    """The schedule of a fit, a factor for each optimizer step; weight decay stays as it is where its end is None."""
    trainer.fit_loop.setup_data()  # else num_training_batches is unknown where max_epochs is -1
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    steps = {"warmup": round(warmup_epochs * batches), "total": trainer.estimated_stepping_batches}
    factor = partial(SCHEDULES[name], **steps)
    if weight_decay_end is None:
        return LambdaLR(optimizer, factor)
    if not any(group.get("weight_decay") for group in optimizer.param_groups):
        raise MisconfigurationException(
            f"model.init_args.weight_decay_end is {weight_decay_end:g} and the optimizer has no weight decay to start "
            "from: set its weight_decay, or leave weight_decay_end out"
        )
    return WeightDecayLR(optimizer, factor, steps["total"], weight_decay_end)
