"""What the optimizer is given: groups of parameters, each with its learning rate and weight decay."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer


def parameter_groups(
    module: nn.Module, encoder: nn.Module | None = None, layer_decay: float = 1.0
) -> list[dict]:
    """Trainable parameters in two groups: matrices and kernels, which decay, and norms and biases, which do not.

    Parameters that a network names in `no_weight_decay()` do not decay either.

    Args:
        module: whose parameters.
        encoder: the part of it that `layer_decay` is for.
        layer_decay: of L layers, the l-th from 0 has two groups of its own with the `lr_scale` layer_decay^(L - l), for
            `build_optimizer`; groups of what is not in the encoder come first and have none.

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


def build_optimizer(make: Callable[[list[dict]], Optimizer], groups: list[dict]) -> Optimizer:
    """The optimizer of these groups, each with its learning rate times its `lr_scale`, which torch does not read."""
    try:
        optimizer = make(groups)
    except (TypeError, ValueError) as error:  # what torch says of options out of range or missing
        raise MisconfigurationException(f"model.init_args.optimizer: {error}") from error
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.pop("lr_scale", 1)
    return optimizer
