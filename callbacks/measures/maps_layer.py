"""Which layer inside an encoder puts out its maps, or the last tokens of patches that its features depend on."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class MapsLayer(NamedTuple):
    """A layer, and a function from its output to maps (B, C, h, w)."""

    layer: nn.Module
    arrange: Callable[[Tensor], Tensor]


def find_maps_layer(encoder: nn.Module, view: Tensor) -> MapsLayer | None:
    """Find the outermost layer whose output is `encoder.maps(view)`, with the channels first or last.

    Returns:
        None if no layer does, or if the maps' aspect ratio differs from the view's by more than a cell: then their axes
        are not (B, C, h, w).
    """
    outputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: outputs.append((layer, output)))
        for layer in encoder.modules()
    ]
    maps = encoder.maps(view)
    for hook in hooks:
        hook.remove()
    if not have_aspect(maps, view):
        return None
    for layer, output in reversed(outputs):
        if output is maps:
            return MapsLayer(layer, lambda x: x)
        if isinstance(output, Tensor) and output.ndim == 4 and same_memory(output.movedim(-1, 1), maps):
            return MapsLayer(layer, lambda x: x.movedim(-1, 1))
    return None


def find_tokens_layer(encoder: nn.Module, view: Tensor) -> MapsLayer | None:
    """Find the last layer that puts out tokens (B, T, D) whose patches the features depend on.

    Patches are the last h * w of the T tokens, as many as the cells of `encoder.maps`, with as many channels. Where
    features are the class token's, the patches of the last block reach them no more: the layer is then the norm that
    the last attention reads.

    Returns:
        None if there is no such layer.
    """
    view = view[:1].detach().clone().requires_grad_()  # so that a frozen encoder has gradients, too
    with torch.no_grad():
        maps = encoder.maps(view)
    if not have_aspect(maps, view):
        return None
    channels, h, w = maps.shape[1:]
    outputs: list[tuple[nn.Module, Tensor]] = []

    def keep_tokens(layer: nn.Module, _: tuple, output: Tensor) -> None:
        is_tokens = isinstance(output, Tensor) and output.ndim == 3 and output.shape[2] == channels
        if is_tokens and output.shape[1] >= h * w:
            outputs.append((layer, output))

    hooks = [layer.register_forward_hook(keep_tokens) for layer in encoder.modules()]
    with torch.enable_grad():
        features = encoder(view).float()
    for hook in hooks:
        hook.remove()
    uneven = torch.linspace(
        1, 2, features.shape[1], device=features.device
    )  # a norm's outputs have a fixed sum
    calls = Counter(layer for layer, _ in outputs)
    outputs = [(layer, output) for layer, output in outputs if calls[layer] == 1 and output.requires_grad]
    gradients = torch.autograd.grad(
        (features * uneven).sum(), [output for _, output in outputs], allow_unused=True
    )
    for (layer, _), gradient in zip(reversed(outputs), reversed(gradients), strict=True):
        if gradient is not None and gradient[:, -h * w :].any():
            return MapsLayer(layer, lambda x: x[..., -h * w :, :].mT.unflatten(-1, (h, w)))
    return None


def have_aspect(maps: Tensor, view: Tensor) -> bool:
    """Whether maps have height and width, in the ratio of the view's, up to a cell."""
    if maps.ndim != 4:
        return False
    (height, width), (h, w) = view.shape[2:], maps.shape[2:]
    return abs(h * width - w * height) <= max(height, width)


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one and the same view of the same numbers."""
    return (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())
