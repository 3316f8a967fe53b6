"""Receptive fields: the pixels that can reach one cell of a map, followed through every operation of a network.

Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from model_summary.axis import UnfollowedError, image_axis
from model_summary.joins import OF_SEVERAL_TENSORS, follow_cells
from model_summary.layout import Factor, Path, join_paths
from model_summary.operation_mode import OperationMode, iterate_tensors, name_options
from model_summary.operations import follow_path

# operations that read a tensor's shape alone
CONSTANT = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")
CONSTANT += ("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "fill_", "zero_")


class ReceptiveField(NamedTuple):
    """The `size` of the field of each cell of a map, and the `jump` from one cell to the next.

    Both are in pixels of the input, (height, width); the size is the largest where cells differ, and infinite where all
    pixels reach a cell. Past the border the input is thought to go on. NaN where a figure is not known.
    """

    size: tuple[float, ...]
    jump: tuple[float, ...]


class Trace(NamedTuple):
    """How the image reaches a tensor: by `paths`, or in a way not known, because of `unfollowed`; and since when."""

    paths: tuple[Path, ...]
    unfollowed: str
    time: int


class FieldTracker(OperationMode):
    """Records, while active, the field of every tensor computed from `image` (B, C, H, W).

    A signal (B, C, L) or a volume (B, C, D, H, W) has one axis or three, whole numbers (B, T) one. `fields[tensor]` is
    a tensor's field, and `reasons[tensor]` the operation since which it is not known.
    """

    def __init__(self, image: Tensor):
        super().__init__()
        self.fields, self.reasons = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        self.traces = WeakTensorKeyDictionary()
        self.time = 0
        self.changed: dict[Any, tuple[Any, int]] = {}  # storages that were written to, and when
        first = 2 if image.is_floating_point() else 1
        self.axes = tuple(range(image.ndim - first))
        if self.axes:
            dims = [(Factor(size),) for size in image.shape[:first]]
            dims += [(Factor(size, (axis,)),) for axis, size in enumerate(image.shape[first:])]
            axes = tuple(map(image_axis, image.shape[first:]))
            self.note(image, Trace((Path(axes, tuple(dims)),), "", 0))

    def note(self, tensor: Tensor, trace: Trace) -> None:
        """Keep a tensor's trace, and its field."""
        self.traces[tensor] = trace
        self.fields[tensor] = field = self.find_field(trace)
        several = "parts of a map that meet in one cell" if any(map(math.isnan, field.size)) else ""
        self.reasons[tensor] = trace.unfollowed or several

    def find_field(self, trace: Trace) -> ReceptiveField:
        """Find the field of a tensor by its trace."""
        sizes, jumps = [], []
        for number in self.axes:
            axes = {path.axes[number] for path in trace.paths}
            whole = any(axis.is_whole for axis in axes)
            clear = len(axes) == 1 and (len(trace.paths) == 1 or not any(axis.shift for axis in axes))
            (axis,) = axes if clear else (None,)
            sizes.append(math.inf if whole else axis.size if axis else math.nan)
            jumps.append(math.inf if whole else axis.jump if axis else math.nan)
        return ReceptiveField(tuple(sizes), tuple(jumps))

    def read_trace(self, tensor: Tensor) -> Trace | None:
        """Return a tensor's trace; None where the image does not reach it."""
        trace = self.traces.get(tensor)
        if self.changed:
            _, time = self.changed.get(storage_of(tensor), (None, -1))
            if time > (trace.time if trace else -1):
                return Trace((), "writing to a part of a tensor", self.time)
        return trace

    def record(self, function: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        self.time += 1
        inputs = [self.read_trace(tensor) for tensor in iterate_tensors((args, kwargs))]
        name = function._schema.name.removeprefix("aten::")
        if not any(inputs) or name in CONSTANT:
            return
        options = name_options(function, args, kwargs) | {"name": name}
        traces, start = [], 0
        for output in iterate_tensors(outputs):
            traces.append((output, self.follow(function, options, output, start)))
            start += output.shape[options["dim"]] if "split" in name else 1
        for output, trace in traces:
            self.note_output(function, options, output, trace)
        for tensor in iterate_tensors([options[name] for name in written_options(function)]):
            if not any(tensor is output for output, _ in traces):
                self.mark_changed(tensor)

    def follow(self, function: Any, options: dict[str, Any], output: Tensor, start: int) -> Trace:
        """Follow an operation to one of its outputs, whose first cell is `start` of the tensor that is cut."""
        written = () if function._schema.name.endswith("_") else written_options(function)
        traces = {
            name: [self.read_trace(tensor) for tensor in iterate_tensors([value])]
            for name, value in options.items()
            if name not in written and any(True for _ in iterate_tensors([value]))
        }
        tracked = {name: [trace and trace.paths for trace in values] for name, values in traces.items()}
        inputs = [trace for values in traces.values() for trace in values if trace]
        shape, cellwise = tuple(output.shape), torch.Tag.pointwise in function.tags
        unfollowed = next((trace.unfollowed for trace in inputs if trace.unfollowed), "")
        try:
            if unfollowed and not (cellwise and any(is_whole(trace) for trace in inputs)):
                raise UnfollowedError(unfollowed)
            rule = follow_cells if cellwise else OF_SEVERAL_TENSORS.get(options["name"])
            if rule:
                paths = rule(options, tracked, shape)
            else:
                (values, *others) = tracked.values()
                if not values[0] or len(values) > 1 or any(paths for other in others for paths in other):
                    raise UnfollowedError(options["name"])
                paths = [follow_path(path, options, shape, start) for path in values[0]]
            if any(path.shape != shape for path in paths):
                raise UnfollowedError(options["name"])
            return Trace(join_paths([path.settle() for path in paths]), "", self.time)
        except UnfollowedError as error:
            if all(is_whole(trace) for trace in inputs):  # whatever reads such cells alone
                path = inputs[0].paths[0]
                return Trace((path._replace(dims=tuple((Factor(side),) for side in shape)),), "", self.time)
            return Trace((), str(error), self.time)

    def note_output(self, function: Any, options: dict[str, Any], output: Tensor, trace: Trace) -> None:
        """Keep an output's trace; what shares memory with a tensor that was written to is no longer known."""
        old = self.read_trace(output)
        unchanged = old is not None and (old.paths, old.unfollowed) == (trace.paths, trace.unfollowed)
        in_place = any(output is options[name] for name in written_options(function))
        if in_place and not unchanged and torch.Tag.inplace_view not in function.tags:
            self.mark_changed(output)
        self.note(output, trace)

    def mark_changed(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.changed[storage._cdata] = (storage, self.time)


def is_whole(trace: Trace) -> bool:
    """Whether all pixels reach each cell of a tensor."""
    return bool(trace.paths) and all(
        all(axis.is_whole for axis in path.axes) and all(factor.even for dim in path.dims for factor in dim)
        for path in trace.paths
    )


def storage_of(tensor: Tensor) -> Any:
    """Return the address of the memory that a tensor shares with its views."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def written_options(function: Any) -> list[str]:
    """List the arguments that an operation writes to."""
    arguments = function._schema.arguments
    return [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
