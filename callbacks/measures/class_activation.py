"""Class activation maps: where on an image a linear classifier of an encoder's features finds a class."""

import torch
from torch import Tensor, nn

from callbacks.measures.maps_layer import find_maps_layer, find_tokens_layer


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
) -> tuple[Tensor, Tensor, str] | None:
    """Compute an encoder's maps (B, C, h, w), the gradients of K classes' scores by them (B, K, C, h, w), and the name
    of the layer that they are taken at.

    The layer puts out what `maps` returns. Where no layer does, as in transformers, it is the last with tokens of
    patches that the features depend on. No parameter gets a gradient.

    Args:
        encoder: in eval mode, so that images do not influence each other.
        weight: of a linear classifier of its features, for all classes.
        classes: (B, K), of each image.

    Returns:
        None where there is no such layer, or what `maps` returns is not (B, C, h, w).
    """
    view = view.clone()  # one made in inference mode has no gradients
    weight = weight[classes]  # (B, K, D)
    maps_layer = find_maps_layer(encoder, view) or find_tokens_layer(encoder, view)
    if maps_layer is None:
        return None
    layer, arrange = maps_layer
    outputs: list[Tensor] = []

    def replace_output(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[0]

    with torch.enable_grad(), layer.register_forward_hook(replace_output):
        scores = (encoder(view).float()[:, None] * weight).sum((0, 2))  # (K,); a bias changes no gradient
        gradients = [torch.autograd.grad(score, outputs[0], retain_graph=True)[0] for score in scores]
    (name,) = (name for name, part in encoder.named_modules() if part is layer)
    maps, gradients = outputs[0].detach().float(), [arrange(gradient.float()) for gradient in gradients]
    return arrange(maps), torch.stack(gradients, 1), name
