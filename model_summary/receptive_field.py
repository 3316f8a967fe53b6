"""Receptive fields: which pixels can reach one cell of a map, followed through every operation of a network.

Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary


class Field(NamedTuple):
    """Receptive field of a cell in pixels (height, width), and jump: pixels from one cell to the next."""

    size: tuple[float, float]
    jump: tuple[float, float]

    def windowed(self, kernel: Any, stride: Any, dilation: Any = 1) -> "Field":
        """Of a convolution or a pooling on these cells."""
        kernel, stride, dilation = pair(kernel), pair(stride), pair(dilation)
        size = [
            s + (k - 1) * d * j for s, k, d, j in zip(self.size, kernel, dilation, self.jump, strict=True)
        ]
        return Field(tuple(size), tuple(j * s for j, s in zip(self.jump, stride, strict=True)))

    def spread(self, kernel: Any, stride: Any) -> "Field":
        """Of a transposed convolution: a cell hears at most ceil(kernel / stride) cells, which lie `jump` apart."""
        kernel, stride = pair(kernel), pair(stride)
        heard = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
        size = [s + (h - 1) * j for s, h, j in zip(self.size, heard, self.jump, strict=True)]
        return Field(tuple(size), tuple(j / s for j, s in zip(self.jump, stride, strict=True)))


WHOLE = Field((math.inf, math.inf), (math.inf, math.inf))  # every pixel of the input


def pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, rest[0] if rest else first


class Fields(TorchFunctionMode):
    """While active, knows the field of each map (..., h, w) made from `image`; of what is flat or pooled, `WHOLE`."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.known = WeakTensorKeyDictionary()
        self.known[image] = Field((1, 1), (1, 1))

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        outputs = function(*args, **(kwargs or {}))
        inputs = [tensor for tensor in tensors((args, kwargs)) if tensor in self.known]
        if inputs:
            field = self.after(getattr(function, "__name__", ""), inputs, args, kwargs or {})
            for output in tensors(outputs):
                if output not in self.known:  # in place, or a view of itself
                    spatial = output.ndim == 4 or output.shape[-2:] == inputs[0].shape[-2:]
                    self.known[output] = field if spatial else WHOLE
        return outputs

    def after(self, name: str, inputs: list[Tensor], args: tuple, kwargs: dict) -> Field:
        """The field of what a function returns."""
        fields = [self.known[tensor] for tensor in inputs]
        field = Field(
            *(tuple(map(max, *both)) if len(fields) > 1 else both[0] for both in zip(*fields, strict=True))
        )
        if WHOLE in fields:
            return WHOLE
        options = dict(zip(SIGNATURES.get(name, ()), args, strict=False)) | kwargs
        if name == "conv2d":
            kernel = options["weight"].shape[2:]
            return field.windowed(kernel, options.get("stride", 1), options.get("dilation", 1))
        if name == "conv_transpose2d":
            return field.spread(options["weight"].shape[2:], options.get("stride", 1))
        if name in ("max_pool2d", "avg_pool2d"):
            kernel = options["kernel_size"]
            return field.windowed(kernel, options.get("stride") or kernel, options.get("dilation", 1))
        if name == "pixel_shuffle":
            return field.spread(1, options["upscale_factor"])
        return WHOLE if name in GLOBAL else field


GLOBAL = ("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax", "scaled_dot_product_attention")
SIGNATURES = {  # of functions that move or widen a field
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": (
        "input",
        "weight",
        "bias",
        "stride",
        "padding",
        "output_padding",
        "groups",
        "dilation",
    ),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    "pixel_shuffle": ("input", "upscale_factor"),
}


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from tensors(branch)
