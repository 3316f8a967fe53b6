"""The summary of a network layer by layer: kernel, stride, output, receptive field, parameters, multiply-adds."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model_summary.receptive_field import ReceptiveField
from model_summary.recorder import Layer, Recorder


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
