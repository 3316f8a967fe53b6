"""The base of what watches every operation of torch that a network runs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):
    """Hands each operation to `record`, while active; composed ones part by part."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = NotImplemented
        if not has_kernel(function):
            with self:
                outputs = function.decompose(*args, **kwargs)
        if outputs is NotImplemented:
            outputs = function(*args, **kwargs)
            self.record(function, args, kwargs, outputs)
        return outputs

    def record(self, function: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        """Note what a subclass wants to know of an operation that has run."""
        raise NotImplementedError


def has_kernel(function: Any) -> bool:
    """Whether an operation runs as one on the CPU, rather than as others of which it is composed."""
    key = torch._C.DispatchKey.CPU
    return isinstance(function, torch._ops.OpOverload) and function.has_kernel_for_dispatch_key(key)


def name_options(function: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Return all arguments of an operation of torch by name, with the defaults of those that were not passed."""
    parameters = function._schema.arguments
    defaults = {parameter.name: parameter.default_value for parameter in parameters}
    passed = {parameter.name: value for parameter, value in zip(parameters, args, strict=False)}
    return defaults | passed | kwargs


def iterate_tensors(tree: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from iterate_tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from iterate_tensors(branch)
