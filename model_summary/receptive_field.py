"""Receptive fields: the pixels that can reach one cell of a map, followed through every operation of a network.

Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

# functions whose every output reads the whole map
GLOBAL = ("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax", "scaled_dot_product_attention")
SIGNATURES = {  # parameters of the functions that move or widen a field, in order
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": ("input", "weight", "bias", "stride"),  # the others are not read
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    "pixel_shuffle": ("input", "upscale_factor"),
}


class ReceptiveField(NamedTuple):
    """The `size` of the field of each cell of a map, and the `jump` from one cell to the next.

    Both are in pixels of the input, (height, width).
    """

    size: tuple[float, float]
    jump: tuple[float, float]

    def after_window(self, kernel: Any, stride: Any, dilation: Any = 1) -> "ReceptiveField":
        """Return the field after a convolution or a pooling."""
        kernel, stride, dilation = to_pair(kernel), to_pair(stride), to_pair(dilation)
        size = tuple(self.size[i] + (kernel[i] - 1) * dilation[i] * self.jump[i] for i in range(2))
        return ReceptiveField(size, tuple(self.jump[i] * stride[i] for i in range(2)))

    def after_transposed(self, kernel: Any, stride: Any) -> "ReceptiveField":
        """Return the field after a transposed convolution.

        Each output cell reads at most ceil(kernel / stride) input cells, which lie `jump` apart.
        """
        kernel, stride = to_pair(kernel), to_pair(stride)
        size = tuple(self.size[i] + (math.ceil(kernel[i] / stride[i]) - 1) * self.jump[i] for i in range(2))
        return ReceptiveField(size, tuple(self.jump[i] / stride[i] for i in range(2)))


WHOLE_IMAGE = ReceptiveField((math.inf, math.inf), (math.inf, math.inf))  # every pixel of the input


def to_pair(value: Any) -> tuple[int, int]:
    """Turn a layer's option, one number or a sequence of one or two, into (height, width)."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return first, others[0] if others else first


class FieldTracker(TorchFunctionMode):
    """Records, while active, the field of every tensor computed from `image`.

    `fields[tensor]` is a map's (..., h, w) field, and `WHOLE_IMAGE` once maps are flattened or pooled.
    """

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
                if output in self.fields:  # the function returned its input
                    continue
                is_map = output.ndim == 4 or output.shape[-2:] == inputs[0].shape[-2:]
                self.fields[output] = field if is_map else WHOLE_IMAGE
        return outputs

    def output_field(self, name: str, inputs: list[Tensor], args: tuple, kwargs: dict) -> ReceptiveField:
        """Return the field of the output of the function called `name`."""
        fields = [self.fields[tensor] for tensor in inputs]
        if WHOLE_IMAGE in fields:
            return WHOLE_IMAGE
        sizes, jumps = zip(*fields, strict=True)
        field = ReceptiveField(find_largest_sides(sizes), find_largest_sides(jumps))
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


def find_largest_sides(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Find the largest height and the largest width of (height, width) pairs."""
    heights, widths = zip(*pairs, strict=True)
    return max(heights), max(widths)


def iterate_tensors(tree: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from iterate_tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from iterate_tensors(branch)
