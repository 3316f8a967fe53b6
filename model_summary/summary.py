"""The summary of a network layer by layer: kernel, stride, output, receptive field, parameters, multiply-adds."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model_summary.multiply_adds import MultiplyAddCounter
from model_summary.operation_mode import iterate_tensors
from model_summary.receptive_field import FieldTracker, ReceptiveField


@dataclass
class Layer:
    """One call of a module that calls no other; shape of the output and multiply-adds are of one example.

    Args:
        multiply_adds: None where they are not known.
        unknown: operations because of which a figure is not known.
    """

    name: str
    kind: str
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    output: tuple[int, ...]
    receptive_field: ReceptiveField | None
    parameters: int
    multiply_adds: int | None
    unknown: tuple[str, ...] = ()


def trace_layers(network: nn.Module, view: Tensor, run: Callable[[], Any] | None = None) -> list[Layer]:
    """Trace every layer of `network` that the view (B, ...) passes, in order, in eval mode and without gradients.

    Layers that neither have parameters nor change the shape are left out; weights used twice are counted once.

    Args:
        run: what to run in place of `network(view)`.
    """
    recorder = Recorder(view)
    handles = []
    for name, module in network.named_modules():
        if "parametrizations" not in name.split("."):
            handles.append(module.register_forward_pre_hook(recorder.before_layer))
            after_layer = partial(recorder.after_layer, name)
            handles.append(module.register_forward_hook(after_layer, with_kwargs=True))
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), plain_operations(), recorder.tracker, recorder.counter:
            network.eval()
            run() if run else network(view)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [*recorder.layers, *recorder.other_layers(network)]


@contextmanager
def plain_operations() -> Iterator[None]:
    """Run, for a while, neither compiled code nor torch's kernels for whole layers of transformers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@dataclass
class Call:
    """What was counted before a module's call, and whether it has called others."""

    count: int
    uncounted: int
    calls_others: bool = False


class Recorder:
    """Hooks that note each layer's call."""

    def __init__(self, view: Tensor):
        self.examples, self.counter = len(view), MultiplyAddCounter()
        self.tracker = FieldTracker(view)
        self.layers: list[Layer] = []
        self.products = 0  # of the layers
        self.uncounted: list[str] = []  # of the layers
        self.counted: set[nn.Parameter] = set()
        self.calls: list[Call] = []

    def before_layer(self, module: nn.Module, inputs: tuple) -> None:
        if self.calls:
            self.calls[-1].calls_others = True
        self.calls.append(Call(self.counter.count, len(self.counter.uncounted)))

    def after_layer(self, name: str, module: nn.Module, inputs: tuple, options: dict, outputs: Any) -> None:
        call = self.calls.pop()
        output = next(iterate_tensors(outputs), None)
        if call.calls_others or output is None:
            return
        first_input = next(iterate_tensors((inputs, options)), None)
        parameters = [p for p in module.parameters() if p not in self.counted]
        if not parameters and first_input is not None and output.shape == first_input.shape:
            return
        self.counted.update(parameters)
        products = self.counter.count - call.count
        uncounted = self.counter.uncounted[call.uncounted :]
        self.products += products
        self.uncounted += uncounted
        field, reason = self.tracker.fields.get(output), self.tracker.reasons.get(output)
        batch_first = getattr(module, "batch_first", True) or output.ndim != 3
        self.layers.append(
            Layer(
                name=name,
                kind=find_kind(module),
                kernel=read_sizes(module, "kernel_size", output),
                stride=read_sizes(module, "stride", output),
                output=tuple(output.shape[1:]) if batch_first else (len(output), *output.shape[2:]),
                receptive_field=field,
                parameters=sum(p.numel() for p in parameters),
                multiply_adds=None if uncounted else products // self.examples,
                unknown=tuple(dict.fromkeys([*([reason] if reason else []), *uncounted])),
            )
        )

    def other_layers(self, network: nn.Module) -> list[Layer]:
        """One line for all outside of these layers: a position embedding, attention, the similarities of a loss."""
        parameters = sum(p.numel() for p in network.parameters() if p not in self.counted)
        products = self.counter.count // self.examples - sum(
            layer.multiply_adds or 0 for layer in self.layers
        )
        uncounted = list(self.counter.uncounted)
        for name in self.uncounted:
            uncounted.remove(name)
        if not parameters and not products and not uncounted:
            return []
        unknown = tuple(dict.fromkeys(uncounted))
        return [
            Layer("elsewhere", "", None, None, (), None, parameters, None if unknown else products, unknown)
        ]


def find_kind(module: nn.Module) -> str:
    """Find the name of a module's class; torch gives modules with parametrizations a class of their own."""
    kind = type(module)
    return kind.__mro__[1].__name__ if nn.utils.parametrize.is_parametrized(module) else kind.__name__


def read_sizes(module: nn.Module, option: str, output: Tensor) -> tuple[int, ...] | None:
    """Read kernel_size or stride of a module, if it has them, for each side of its output (B, C, ...)."""
    value = getattr(module, option, None)
    if isinstance(value, int):
        return (value,) * (output.ndim - 2)
    return tuple(value) if isinstance(value, tuple | list) else None


def format_summary(layers: list[Layer], view: Tensor) -> str:
    """Format layers as a table of text, a row for each, with totals; ? for a figure that is not known."""
    header = [
        "layer",
        "kind",
        "kernel",
        "stride",
        "output",
        "receptive field",
        "jump",
        "parameters",
        "multiply-adds",
    ]
    rows = [["input", "", "", "", format_size(view.shape[1:]), "", "", "", ""]]
    for layer in layers:
        rows.append(
            [
                layer.name,
                layer.kind,
                format_size(layer.kernel or ()),
                format_size(layer.stride or ()),
                format_size(layer.output),
                *format_field(layer.receptive_field),
                f"{layer.parameters:,}",
                format_products(layer.multiply_adds),
            ]
        )
    products = [layer.multiply_adds for layer in layers]
    total = None if None in products else sum(products)
    parameters = sum(layer.parameters for layer in layers)
    rows.append(["total", *[""] * 6, f"{parameters:,}", format_products(total)])
    table = format_columns([header, *rows], right=(7, 8))
    unknown = dict.fromkeys(name for layer in layers for name in layer.unknown)
    return f"{table}\n? not known, because of {', '.join(unknown)}" if unknown else table


def format_field(field: ReceptiveField | None) -> list[str]:
    """Format the size of a receptive field, and its jump; blank for what the image does not reach."""
    if field is None or not field.size:
        return ["", ""]
    if all(math.isinf(side) for side in field.size):
        return ["all", ""]
    return [format_size(field.size), format_size(field.jump)]


def format_products(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def format_size(numbers: tuple[float, ...]) -> str:
    """(3, 4) -> 3x4; (inf, 4) -> allx4; not known, ?"""
    if any(math.isnan(number) for number in numbers):
        return "?"
    return "x".join("all" if math.isinf(number) else f"{number:g}" for number in numbers)


def format_columns(rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    """Align rows of cells in columns; the first row is underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
