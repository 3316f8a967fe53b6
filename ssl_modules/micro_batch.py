"""Large batches on one device: networks that keep no activations of the batch, only those of a part of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms in training leave their running statistics as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked


def encode_in_parts(
    network: nn.Module, size: int | None, *inputs: Tensor, call: Callable | None = None
) -> Tensor | tuple[Tensor, ...]:
    """Call a network on parts of a batch, and once more for each part when gradients come back.

    Gradients are those of the whole batch to rounding, at the memory of a part and the time of another forward pass.
    Dropout draws the same numbers both times. Batch norm sees each part alone, and updates its statistics once.

    Args:
        network: with one tensor or a tuple of them, (B, ...) each, as its output.
        size: examples in a part; all at once, and no second pass, if None.
        inputs: (B, ...) each.
        call: a method of `network` in place of its `forward`.

    Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """
    call = network if call is None else call
    if size is None or len(inputs[0]) <= size:
        return call(*inputs)
    if torch.is_grad_enabled():
        outputs = [
            checkpoint(
                call,
                *part,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), keep_statistics(network)),
            )
            for part in zip(*(x.split(size) for x in inputs), strict=True)
        ]
    else:
        outputs = [call(*part) for part in zip(*(x.split(size) for x in inputs), strict=True)]
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return tuple(torch.cat(part) for part in zip(*outputs, strict=True))
