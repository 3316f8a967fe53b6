"""Networks built from a plain list of layers, as an exercise or a paper gives it."""

from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

KINDS = {"conv": {"kernel", "stride", "bias"}, "pool": {"stride"}, "linear": {"bias"}}


def read_layer_list(path: Path) -> dict[str, Any]:
    """Read a plan from a YAML file."""
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise layer_list_error(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise layer_list_error(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(plan, dict):
        raise layer_list_error(f"{path} holds no keys: it needs input and layers")
    return plan


def build_network(plan: dict[str, Any]) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """Build the network; also returns its input's shape (C, H, W).

    Args:
        plan: `input: [C, H, W]`; `padding: same` or `none`, of convolutions; `bias: true` or `false`; `layers`, a list
            of `{conv: CHANNELS, kernel: K, stride: S}`, `{pool: [KH, KW]}` (its stride is its size) and
            `{linear: OUTPUTS}`, each with a `bias` of its own if it differs.

    With `padding: same` a convolution of stride 1 keeps its input's size, by (kernel - 1) / 2 zeros on each side.

    Raises:
        MisconfigurationException: the plan has another form, or a layer is larger than its input.
    """
    unknown = plan.keys() - {"input", "padding", "bias", "layers"}
    if unknown or not {"input", "layers"} <= plan.keys():
        raise layer_list_error(
            f"the keys are input, layers, padding and bias, not {', '.join(sorted(unknown or plan.keys()))}"
        )
    sizes, layers = plan["input"], plan["layers"]
    if not (isinstance(sizes, list) and len(sizes) == 3 and all(type(n) is int and n > 0 for n in sizes)):
        raise layer_list_error(f"input is {sizes}: give [channels, height, width]")
    if not (isinstance(layers, list) and all(isinstance(layer, dict) for layer in layers)):
        raise layer_list_error(
            f"layers is {layers}: give a list such as [{{conv: 8, kernel: 3}}, {{linear: 10}}]"
        )
    if plan.get("padding", "none") not in ("same", "none"):
        raise layer_list_error(f"padding is {plan['padding']}: same or none")
    modules: list[nn.Module] = []
    x = torch.empty(1, *sizes, device="meta")
    for number, layer in enumerate(layers, start=1):
        try:
            for part in build_layer(layer, number, x, plan):
                x = part.to("meta")(x)
                modules.append(part)
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            raise layer_list_error(
                f"layer {number}, {layer}, does not fit {tuple(x.shape[1:])}: {error}"
            ) from error
    return nn.Sequential(*modules).to_empty(device="cpu"), tuple(sizes)


def build_layer(layer: dict[str, Any], number: int, x: torch.Tensor, plan: dict[str, Any]) -> list[nn.Module]:
    """Build the modules of one layer of the list, for an input like `x`."""
    kind = next((kind for kind in KINDS if kind in layer), None)
    if kind is None or layer.keys() - KINDS[kind] - {kind}:
        raise layer_list_error(
            f"layer {number}, {layer}: it is a conv (kernel, stride), a pool (stride) or a linear one"
        )
    bias = layer.get("bias", plan.get("bias", True))
    if kind == "linear":
        flat = [nn.Flatten()] if x.ndim > 2 else []
        return [*flat, nn.Linear(x[0].numel(), layer["linear"], bias=bias)]
    if kind == "pool":
        size = to_pair(layer["pool"])
        return [nn.MaxPool2d(size, to_pair(layer.get("stride", size)))]
    if "kernel" not in layer:
        raise layer_list_error(f"layer {number}, {layer}: a conv needs its kernel")
    kernel = to_pair(layer["kernel"])
    if plan.get("padding") == "same" and not all(k % 2 for k in kernel):
        raise layer_list_error(f"layer {number}, {layer}: padding same needs an odd kernel")
    padding = tuple((k - 1) // 2 for k in kernel) if plan.get("padding") == "same" else 0
    return [nn.Conv2d(x.shape[1], layer["conv"], kernel, to_pair(layer.get("stride", 1)), padding, bias=bias)]


def to_pair(value: Any) -> tuple[int, int]:
    """Turn a layer's option, one number or a sequence of one or two, into (height, width)."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return first, others[0] if others else first


def layer_list_error(why: str) -> MisconfigurationException:
    return MisconfigurationException(f"list of layers: {why}")
