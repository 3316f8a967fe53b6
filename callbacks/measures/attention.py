"""Attention of transformers: from which patches an encoder's features are gathered."""

import torch
from torch import Tensor


def roll_out_attention(weights: Tensor) -> Tensor:
    """Attention of all layers (layers, B, heads, T, T), the first layer first -> of the last tokens to the first ones
    (B, T, T); rows sum to 1.

    The mean over heads counts for one half in each layer, the token's own place, which the residual connection keeps,
    for the other. Abnar & Zuidema 2020, section 3, https://arxiv.org/abs/2005.00928
    """
    own_place = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    rolled_out = own_place.expand(weights.shape[1], -1, -1)
    with torch.autocast(
        weights.device.type, enabled=False
    ):  # products in half precision lose the differences
        for layer in weights.mean(2):
            rolled_out = (layer + own_place) / 2 @ rolled_out
    return rolled_out


def attention_to_patches(weights: Tensor, grid: tuple[int, int], class_token: bool) -> Tensor:
    """Attention (..., T, T), the last h * w tokens being patches -> to each patch, on the grid (..., h, w).

    Args:
        grid: h, w.
        class_token: whether the first token asks; else the patches do, and the result is the mean over all of them.
    """
    patches = grid[0] * grid[1]
    asking = weights[..., 0, :] if class_token else weights[..., -patches:, :].mean(-2)
    return asking[..., -patches:].unflatten(-1, grid)
