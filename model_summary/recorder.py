"""What each call of a network's layers is noted as: sizes, receptive field, parameters, multiply-adds."""

from dataclasses import dataclass
from typing import Any

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
