"""Large batches on one device: networks that keep no activations of the batch, only those of a part of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms in training leave their running statistics as they are."""
    norms = [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


def encode_in_parts(
    module: LightningModule, network: nn.Module, *inputs: Tensor, call: Callable | None = None
) -> Tensor | tuple[Tensor, ...]:
    """Call a network on parts of a batch, and once more for each part when gradients come back.

    Gradients are those of the whole batch to rounding, at the memory of a part and the time of another forward pass.
    Dropout draws the same numbers both times. Batch norm sees each part alone, and updates its statistics once.

    Args:
        module: its `micro_batch` is the number of examples in a part; all at once, and no second pass, if None.
        network: whose output is a tensor or a tuple of them, (B, ...) each.
        inputs: (B, ...) each.
        call: a method of `network` in place of its `forward`.

    Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """
    call, size = network if call is None else call, module.micro_batch
    if size is None or len(inputs[0]) <= size:
        return call(*inputs)
    parts = zip(*(x.split(size) for x in inputs), strict=True)
    if torch.is_grad_enabled():
        contexts = {"context_fn": lambda: (nullcontext(), keep_statistics(network))}
        outputs = [checkpoint(call, *part, use_reentrant=False, **contexts) for part in parts]
    else:
        outputs = [call(*part) for part in parts]
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return tuple(torch.cat(part) for part in zip(*outputs, strict=True))
