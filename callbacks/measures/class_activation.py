"""Class activation maps: where on an image a linear classifier of an encoder's features finds a class."""

import torch
from torch import Tensor, nn


def class_activation(maps: Tensor, weight: Tensor) -> Tensor:
    """Maps (B, D, h, w), weights (K, D) of a linear classifier on their mean -> activation (B, K, h, w).

    The mean of the activation over space is the logit, less its bias. Zhou et al. 2016, https://arxiv.org/abs/1512.04150
    """
    return torch.einsum("bdhw,kd->bkhw", maps, weight)


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Maps (B, C, h, w), gradients of K scores with respect to them (B, K, C, h, w) -> activation (B, K, h, w), >= 0.

    A map's weight is the mean of its gradient over space. Where features are the mean of the maps, this is the positive
    part of `class_activation`, divided by h * w. Selvaraju et al. 2017, eq. 1-2, https://arxiv.org/abs/1610.02391
    """
    return torch.einsum("bchw,bkc->bkhw", maps, gradients.mean((3, 4))).relu()


@torch.inference_mode(False)
def maps_and_gradients(
    encoder: nn.Module, view: Tensor, weight: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Compute an encoder's maps (B, C, h, w) and the gradients of K classes' scores by them (B, K, C, h, w).

    No parameter gets a gradient.

    Args:
        encoder: in eval mode, so that images do not influence each other.
        weight: of a linear classifier of its features, for all classes.
        classes: (B, K), of each image.

    Returns:
        None where no layer inside the encoder puts out what its `maps` returns, or that is not (B, C, h, w).
    """
    view = view.clone()  # one made in inference mode has no gradients
    weight = weight[classes]  # (B, K, D)
    maps_layer = find_maps_layer(encoder, view)
    if maps_layer is None:
        return None
    layer, channels_last = maps_layer
    outputs: list[Tensor] = []

    def replace_output(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[0]

    with torch.enable_grad(), layer.register_forward_hook(replace_output):
        scores = (encoder(view).float()[:, None] * weight).sum((0, 2))  # (K,); a bias changes no gradient
        gradients = [torch.autograd.grad(score, outputs[0], retain_graph=True)[0] for score in scores]
    maps, gradients = outputs[0].detach().float(), torch.stack(gradients, 1).float()
    return (maps.movedim(-1, 1), gradients.movedim(-1, 2)) if channels_last else (maps, gradients)


def find_maps_layer(encoder: nn.Module, view: Tensor) -> tuple[nn.Module, bool] | None:
    """Find the outermost layer whose output is `encoder.maps(view)`, and whether that has the channels last.

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
    if maps.ndim != 4:
        return None
    (height, width), (h, w) = view.shape[2:], maps.shape[2:]
    if abs(h * width - w * height) > max(height, width):
        return None
    for layer, output in reversed(outputs):
        if output is maps:
            return layer, False
        if isinstance(output, Tensor) and output.ndim == 4 and same_memory(output.movedim(-1, 1), maps):
            return layer, True
    return None


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one and the same view of the same numbers."""
    return (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())
