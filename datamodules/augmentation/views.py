"""The views of a batch of images, drawn from its key and made on its device."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from common.batch import BatchKey
from datamodules.augmentation.augment import draw_params
from datamodules.augmentation.geometry import crop_center
from datamodules.augmentation.recipe import Recipe, require_option


def list_copies(recipes: list[Recipe]) -> list[Recipe]:
    """One recipe for each view. Raise where one asks for no view."""
    for recipe in recipes:
        require_option(recipe.copies >= 1, recipe, "copies", "is a number of views: set it to 1 or more")
    return [replace(recipe, copies=1) for recipe in recipes for _ in range(recipe.copies)]


def make_views(
    images: Tensor, recipes: list[Recipe], key: BatchKey, augment: Callable[[Tensor, Recipe, Tensor], Tensor]
) -> list[Tensor]:
    """Make a view (B, C, S, S) of every image for each recipe.

    The parameters are drawn for the batch of all processes; this process takes its rows of them. Of images that are not
    square, a recipe that does not crop gets the central square, as of torchvision's Resize and CenterCrop.

    Args:
        images: uint8 (B, H, W, C), on the device where the views are wanted.
        augment: (images, recipe, rows of `draw_params`) -> a view, as `augment_images`.
    """
    generator, device, views = torch.Generator().manual_seed(key.number), images.device, []
    # colors are float32, also where a callback computes in bf16
    with torch.autocast(device.type, enabled=False):
        for recipe in recipes:
            source = images if recipe.crops else crop_center(images, min(images.shape[1:3]))
            params = draw_params(recipe, key.rows, source.shape[1:3], generator, key.local)
            views.append(augment(source, recipe, params.to(device, non_blocking=True)))
    return views
