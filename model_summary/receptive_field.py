"""Receptive fields: the pixels that can reach one cell of a map, followed through every operation of a network.

Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary


class ReceptiveField(NamedTuple):
    """Receptive field of a cell in pixels (height, width), and jump: pixels from one cell to the next."""

    size: tuple[float, float]
    jump: tuple[float, float]

    def after_window(self, kernel: Any, stride: Any, dilation: Any = 1) -> "ReceptiveField":
        """Return the field of a convolution or a pooling on these cells."""
        kernel, stride, dilation = to_pair(kernel), to_pair(stride), to_pair(dilation)
        size = [
            s + (k - 1) * d * j for s, k, d, j in zip(self.size, kernel, dilation, self.jump, strict=True)
        ]
        return ReceptiveField(tuple(size), tuple(j * s for j, s in zip(self.jump, stride, strict=True)))

    def after_transposed(self, kernel: Any, stride: Any) -> "ReceptiveField":
        """Return the field of a transposed convolution.

        A cell of it reads at most ceil(kernel / stride) cells, which lie `jump` apart.
        """
        kernel, stride = to_pair(kernel), to_pair(stride)
        cells = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
        size = [s + (n - 1) * j for s, n, j in zip(self.size, cells, self.jump, strict=True)]
        return ReceptiveField(tuple(size), tuple(j / s for j, s in zip(self.jump, stride, strict=True)))


WHOLE_IMAGE = ReceptiveField((math.inf, math.inf), (math.inf, math.inf))  # every pixel of the input


def to_pair(value: Any) -> tuple[int, int]:
    """An option of a layer as (height, width): one number, or a sequence of one or two."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return first, others[0] if others else first


class FieldTracker(TorchFunctionMode):
    """While active, notes the field of each map (..., h, w) made from `image`: `WHOLE_IMAGE` where flat or pooled."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.fields = WeakTensorKeyDictionary()
        self.fields[image] = ReceptiveField((1, 1), (1, 1))

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        outputs = function(*args, **(kwargs or {}))
        inputs = [tensor for tensor in iterate_tensors((args, kwargs)) if tensor in self.fields]
        if inputs:
            field = self.output_field(getattr(function, "__name__", ""), inputs, args, kwargs or {})
            for output in iterate_tensors(outputs):
                if output not in self.fields:  # in place, or a view of itself
                    spatial = output.ndim == 4 or output.shape[-2:] == inputs[0].shape[-2:]
                    self.fields[output] = field if spatial else WHOLE_IMAGE
        return outputs

    def output_field(self, name: str, inputs: list[Tensor], args: tuple, kwargs: dict) -> ReceptiveField:
        """Return the field of what a function returns."""
        fields = [self.fields[tensor] for tensor in inputs]
        if WHOLE_IMAGE in fields:
            return WHOLE_IMAGE
        sizes, jumps = zip(*fields, strict=True)
        field = ReceptiveField(*(tuple(map(max, zip(*sides, strict=True))) for sides in (sizes, jumps)))
        options = dict(zip(SIGNATURES.get(name, ()), args, strict=False)) | kwargs
        if name == "conv2d":
            kernel = options["weight"].shape[2:]
            return field.after_window(kernel, options.get("stride", 1), options.get("dilation", 1))
        if name == "conv_transpose2d":
            return field.after_transposed(options["weight"].shape[2:], options.get("stride", 1))
        if name in ("max_pool2d", "avg_pool2d"):
            kernel = options["kernel_size"]
            return field.after_window(kernel, options.get("stride") or kernel, options.get("dilation", 1))
        if name == "pixel_shuffle":
            return field.after_transposed(1, options["upscale_factor"])
        return WHOLE_IMAGE if name in GLOBAL else field


GLOBAL = (  # functions whose every output reads the whole map
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "mean",
    "amax",
    "scaled_dot_product_attention",
)
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


def iterate_tensors(tree: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from iterate_tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from iterate_tensors(branch)
