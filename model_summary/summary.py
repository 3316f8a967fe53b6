"""A network layer by layer: kernel, stride, output, receptive field, parameters, multiply-adds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model_summary.receptive_field import WHOLE, Field, Fields, pair

RECURRENT = ("RNN", "LSTM", "GRU")  # one kernel each, which the counter does not know


@dataclass
class Layer:
    """One call of a module without children; shape of the output and multiply-adds are of one example."""

    name: str
    kind: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    output: tuple[int, ...]
    field: Field | None
    parameters: int
    multiply_adds: int


def trace(network: nn.Module, view: Tensor, run: Callable[[], Any] | None = None) -> list[Layer]:
    """Every layer of `network` that the view (B, ...) passes, in that order; in eval mode, without gradients.

    Layers that neither have parameters nor change the shape are left out; weights used twice are counted once.

    Args:
        run: what to run in place of `network(view)`.
    """
    recorder, fields = Recorder(view), Fields(view)
    recorder.fields = fields
    handles = []
    for name, module in network.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_pre_hook(recorder.before))
            handles.append(module.register_forward_hook(partial(recorder.after, name)))
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), recorder.flops, fields:
            network.eval()
            run() if run else network(view)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [*recorder.layers, *recorder.rest(network)]


class Recorder:
    """Hooks that note each layer's call."""

    def __init__(self, view: Tensor):
        self.examples, self.flops = len(view), FlopCounterMode(display=False)
        self.fields: Fields
        self.layers: list[Layer] = []
        self.counted: set[nn.Parameter] = set()
        self.start = 0

    def before(self, module: nn.Module, inputs: tuple) -> None:
        self.start = self.flops.get_total_flops()

    def after(self, name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        own = [p for p in module.parameters() if p not in self.counted]
        self.counted.update(own)
        products = (self.flops.get_total_flops() - self.start) // 2
        if isinstance(module, nn.RNNBase):
            products = output.shape[:2].numel() * sum(p.numel() for p in own if p.ndim == 2)
        if own or output.shape != inputs[0].shape:
            self.layers.append(
                Layer(
                    name=name,
                    kind=type(module).__name__,
                    kernel=window(module, "kernel_size"),
                    stride=window(module, "stride"),
                    output=tuple(output.shape[1:]),
                    field=self.fields.known.get(output),
                    parameters=sum(p.numel() for p in own),
                    multiply_adds=products // self.examples,
                )
            )

    def rest(self, network: nn.Module) -> list[Layer]:
        """What is outside of these layers: a position embedding, attention, the similarities of a loss."""
        parameters = sum(p.numel() for p in network.parameters() if p not in self.counted)
        known = sum(layer.multiply_adds for layer in self.layers if layer.kind not in RECURRENT)
        products = max(0, self.flops.get_total_flops() // 2 // self.examples - known)
        if not parameters and not products:
            return []
        return [Layer("elsewhere", "", None, None, (), None, parameters, products)]


def window(module: nn.Module, option: str) -> tuple[int, int] | None:
    value = getattr(module, option, None)
    return None if value is None else pair(value)


def table(layers: list[Layer], view: Tensor) -> str:
    """As text, a row a layer, with totals."""
    head = [
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
    rows = [["input", "", "", "", size(view.shape[1:]), "", "", "", ""]]
    for layer in layers:
        field = ["", ""] if layer.field is None else [size(layer.field.size), size(layer.field.jump)]
        if layer.field is not None and layer.field.size == WHOLE.size:
            field = ["all", ""]
        rows.append(
            [
                layer.name,
                layer.kind,
                size(layer.kernel or ()),
                size(layer.stride or ()),
                size(layer.output),
                *field,
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
            ]
        )
    sums = (sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers))
    rows.append(["total", *[""] * 6, *(f"{total:,}" for total in sums)])
    return text([head, *rows], right=(7, 8))


def size(numbers: tuple[float, ...]) -> str:
    return "x".join(f"{number:g}" for number in numbers)


def text(rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    """Rows of cells in columns, the first row underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
