"""The summary of a network layer by layer: kernel, stride, output, receptive field, parameters, multiply-adds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model_summary.receptive_field import WHOLE_IMAGE, FieldTracker, ReceptiveField, to_pair

RECURRENT = ("RNN", "LSTM", "GRU")  # torch runs each as one kernel, which the counter does not count


@dataclass
class Layer:
    """One call of a module without children; shape of the output and multiply-adds are of one example."""

    name: str
    kind: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    output: tuple[int, ...]
    receptive_field: ReceptiveField | None
    parameters: int
    multiply_adds: int


def trace_layers(network: nn.Module, view: Tensor, run: Callable[[], Any] | None = None) -> list[Layer]:
    """Trace every layer of `network` that the view (B, ...) passes, in order, in eval mode and without gradients.

    Layers that neither have parameters nor change the shape are left out; weights used twice are counted once.

    Args:
        run: what to run in place of `network(view)`.
    """
    recorder = Recorder(view)
    handles = []
    for name, module in network.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_pre_hook(recorder.before_layer))
            handles.append(module.register_forward_hook(partial(recorder.after_layer, name)))
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), recorder.flops, recorder.tracker:
            network.eval()
            run() if run else network(view)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [*recorder.layers, *recorder.other_layers(network)]


class Recorder:
    """Hooks that note each layer's call."""

    def __init__(self, view: Tensor):
        self.examples, self.flops = len(view), FlopCounterMode(display=False)
        self.tracker = FieldTracker(view)
        self.layers: list[Layer] = []
        self.counted: set[nn.Parameter] = set()
        self.start = 0

    def before_layer(self, module: nn.Module, inputs: tuple) -> None:
        self.start = self.flops.get_total_flops()

    def after_layer(self, name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        parameters = [p for p in module.parameters() if p not in self.counted]
        self.counted.update(parameters)
        products = (self.flops.get_total_flops() - self.start) // 2
        if isinstance(module, nn.RNNBase):
            products = output.shape[:2].numel() * sum(p.numel() for p in parameters if p.ndim == 2)
        if parameters or output.shape != inputs[0].shape:
            self.layers.append(
                Layer(
                    name=name,
                    kind=type(module).__name__,
                    kernel=read_size_pair(module, "kernel_size"),
                    stride=read_size_pair(module, "stride"),
                    output=tuple(output.shape[1:]),
                    receptive_field=self.tracker.fields.get(output),
                    parameters=sum(p.numel() for p in parameters),
                    multiply_adds=products // self.examples,
                )
            )

    def other_layers(self, network: nn.Module) -> list[Layer]:
        """One line for all outside of these layers: a position embedding, attention, the similarities of a loss."""
        parameters = sum(p.numel() for p in network.parameters() if p not in self.counted)
        counted = sum(layer.multiply_adds for layer in self.layers if layer.kind not in RECURRENT)
        products = max(0, self.flops.get_total_flops() // 2 // self.examples - counted)
        if not parameters and not products:
            return []
        return [Layer("elsewhere", "", None, None, (), None, parameters, products)]


def read_size_pair(module: nn.Module, option: str) -> tuple[int, int] | None:
    """Read kernel_size or stride of a module, if it has them."""
    value = getattr(module, option, None)
    return None if value is None else to_pair(value)


def format_summary(layers: list[Layer], view: Tensor) -> str:
    """Format layers as a table of text, a row for each, with totals."""
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
        field = layer.receptive_field
        columns = ["", ""] if field is None else [format_size(field.size), format_size(field.jump)]
        if field is not None and field.size == WHOLE_IMAGE.size:
            columns = ["all", ""]
        rows.append(
            [
                layer.name,
                layer.kind,
                format_size(layer.kernel or ()),
                format_size(layer.stride or ()),
                format_size(layer.output),
                *columns,
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
            ]
        )
    sums = (sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers))
    rows.append(["total", *[""] * 6, *(f"{total:,}" for total in sums)])
    return format_columns([header, *rows], right=(7, 8))


def format_size(numbers: tuple[float, ...]) -> str:
    """(3, 4) -> 3x4"""
    return "x".join(f"{number:g}" for number in numbers)


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
