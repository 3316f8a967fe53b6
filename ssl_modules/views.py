"""Several views of a batch, of one size or of several, through one network."""

from itertools import groupby

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from ssl_modules.micro_batch import encode_in_parts
from ssl_modules.networks.patches import count_patches


def encode_views(module: LightningModule, network: nn.Module, views: list[Tensor]) -> Tensor:
    """Encode views (B, C, H, W) each -> (V, B, D). Neighbors of one size go through the network together, or in parts
    of the module's `micro_batch`."""
    features = []
    for _, group in groupby(views, key=lambda view: view.shape):
        stacked = torch.stack(list(group))  # (v, B, C, H, W)
        encoded = encode_in_parts(module, network, stacked.flatten(0, 1))
        features.append(encoded.unflatten(0, stacked.shape[:2]))
    return torch.cat(features)


def split_crops(views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The views of the first one's size, which a teacher sees, and the smaller ones after them."""
    count = sum(view.shape == views[0].shape for view in views)
    return views[:count], views[count:]


def encode_view_tokens(
    module: LightningModule,
    network: nn.Module,
    views: list[Tensor],
    mask: Tensor | None = None,
    mask_token: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode views (B, C, H, W) each -> features (V, B, D), and tokens (G, B, N, D) of the patches of the G large ones.

    Args:
        views: the large ones, of one size, come first.
        mask, mask_token: bool (G, B, N), and what takes the place of the patches where it is true; as in ViT.
    """
    large, small = split_crops(views)
    inputs = [torch.cat(large)] if mask is None else [torch.cat(large), mask.flatten(0, 1)]

    def encode(view: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return network.encode_tokens(view, mask=mask, mask_token=mask_token)

    outputs = encode_in_parts(module, network, *inputs, call=encode)
    features, tokens = (x.unflatten(0, (len(large), -1)) for x in outputs)
    return torch.cat([features, encode_views(module, network, small)]) if small else features, tokens


def list_sizes(recipes: list) -> list[int]:
    """The sides of the views. Raises where they are texts."""
    if not all(hasattr(recipe, "size") for recipe in recipes):
        raise MisconfigurationException(
            "this method needs views of images, and the data are texts: take other data"
        )
    return [recipe.size for recipe in recipes]


def check_crops(recipes: list) -> str | None:
    """What methods that compare several crops with large ones need, in words, where the recipes are others."""
    sizes = list_sizes(recipes)
    suited = sizes.count(sizes[0]) > 1 and sizes == sorted(sizes, reverse=True)
    return None if suited else "at least two views of the largest size, given first"


def check_two_large(recipes: list) -> str | None:
    """What methods need that assign two large views, in words, where the recipes are others."""
    sizes = list_sizes(recipes)
    suited = sizes[:2] == 2 * [max(sizes)] and sizes.count(max(sizes)) == 2
    return None if suited else "two views of the largest size, given first, and others that are smaller"


def check_patch_crops(recipes: list, encoder: nn.Module) -> str | None:
    """The same of methods that mask patches of the large views; raises where patches do not fill a view."""
    grids = [count_patches(encoder, size) for size in list_sizes(recipes)]
    return check_crops(recipes) or (None if min(grids[0]) > 1 else "views of at least two patches a side")
