"""Augmentation of a whole batch at once, on the device the batch is on, every image with its own draw."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from datamodules.augmentation import color as colors
from datamodules.augmentation.geometry import blur, blur_matrix, resample, rotate
from datamodules.augmentation.recipe import Recipe

COLUMNS = (
    *("top", "left", "height", "width", "flip"),
    *("brightness", "contrast", "saturation", "hue", "gray", "sigma", "solarize", "angle"),
    *("cut_y", "cut_x"),
)
TRIES = 10  # boxes tried before the central one, as in torchvision's RandomResizedCrop
CHUNK = 2**18  # numbers (1 MB of float32) worked on at a time on a CPU, so that they stay in its cache


def draw(recipe: Recipe, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """The luck of n images of size (H, W): (n, 15) on the CPU, one of `COLUMNS` a column, one image a row.

    Every image takes the same count of numbers from the generator, whatever the recipe says; one more if it rotates,
    and two if it cuts out.
    """
    luck = torch.rand(n, 2 * TRIES + 12, generator=generator)
    place, luck = luck[:, : 2 * TRIES + 2], luck[:, 2 * TRIES + 2 :].T
    chances = torch.tensor([recipe.flip, recipe.jitter, recipe.gray, recipe.blur, recipe.solarize])
    flip, jitter, gray, blur, solarize = luck[:5] < chances.unsqueeze(1)
    brightness, contrast, saturation = (
        torch.where(jitter, between(max(0, 1 - x), 1 + x, u), 1)
        for x, u in zip((recipe.brightness, recipe.contrast, recipe.saturation), luck[5:8], strict=True)
    )
    hue = torch.where(jitter, between(-recipe.hue, recipe.hue, luck[8]), 0)
    sigma = torch.where(blur, between(*recipe.sigma, luck[9]), 0)
    box = boxes(recipe, *size, place) if recipe.crops else torch.tensor([[0, 0, *size]]).expand(n, 4)
    angle = torch.zeros(n)
    if recipe.rotate:
        angle = between(-recipe.rotate, recipe.rotate, torch.rand(n, generator=generator))
    cut = torch.rand(2, n, generator=generator) if recipe.cutout else torch.zeros(2, n)
    color = brightness, contrast, saturation, hue, gray, sigma, solarize
    columns = (*box.unbind(1), flip, *color, angle, *cut)
    return torch.stack([column.float() for column in columns], dim=1)


def between(low: float, high: float, u: Tensor) -> Tensor:
    return low + (high - low) * u


def boxes(recipe: Recipe, height: int, width: int, luck: Tensor) -> Tensor:
    """Crops, luck (n, 22) uniform -> (n, 4): top, left, height, width. Resized ones as torchvision draws them."""
    if recipe.crop:
        side, pad = torch.full((len(luck),), float(recipe.crop)), recipe.pad
        padded = anywhere(side, side, height + 2 * pad, width + 2 * pad, luck)
        return padded - torch.tensor([pad, pad, 0, 0])
    area = height * width * between(*recipe.scale, luck[:, :TRIES])
    aspect = between(*(math.log(r) for r in recipe.ratio), luck[:, TRIES : 2 * TRIES]).exp()  # (n, tries)
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.byte().argmax(1, keepdim=True)
    h, w = h.gather(1, first).squeeze(1), w.gather(1, first).squeeze(1)
    low, high = recipe.ratio
    fallback_w, fallback_h = min(width, round(height * high)), min(height, round(width / low))
    fallback = [(height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w]
    drawn = anywhere(h, w, height, width, luck)
    return torch.where(fits.any(1, keepdim=True), drawn, torch.tensor(fallback))


def anywhere(h: Tensor, w: Tensor, height: int, width: int, luck: Tensor) -> Tensor:
    """Boxes of h x w (n,) pixels, every place of the image as likely as another: (n, 4)."""
    top, left = ((height - h + 1) * luck[:, -2]).floor(), ((width - w + 1) * luck[:, -1]).floor()
    return torch.stack([top, left, h, w], dim=1)


def augment(
    images: Tensor,
    recipe: Recipe,
    draws: Tensor,
    size: int | None = None,
    color: Literal["exact", "fast"] = "exact",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """One view of every image.

    Args:
        images: uint8 (B, H, W, C), on any device.
        draws: the rows of `draw` for these images, (B, 15).
        size: S, the side of the view; the crop's or else the images' height if None.
        color: "exact" is torchvision's, in a fixed order; "fast" is one affine map an image, with the blur in the crop.
        mean, std: one number a channel, to normalize with.

    Returns:
        float32 (B, C, S, S), in [0, 1] before it is normalized.
    """
    size = size or recipe.crop or images.shape[1]
    draws = draws.to(images.device, non_blocking=True)
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return view(images, recipe, draws, size, color, mean, std)
    sigma = draws[:, COLUMNS.index("sigma")]
    views = torch.empty(len(images), images.shape[3], size, size)
    order = sigma.argsort(stable=True)  # those without blur come together, and skip it
    for rows in order.split(max(1, CHUNK // images[0].numel())):
        part = recipe if sigma[rows].any() else replace(recipe, blur=0.0)
        chunk = view(images.index_select(0, rows), part, draws[rows], size, color, mean, std)
        views.index_copy_(0, rows, chunk)
    return views


def view(images: Tensor, recipe: Recipe, draws: Tensor, size: int, color: str, mean, std) -> Tensor:
    """`augment`, of as many images as a cache holds. Nothing here waits for the device."""
    luck = {name: column.view(-1, 1, 1, 1) for name, column in zip(COLUMNS, draws.unbind(1), strict=True)}
    sigma = luck["sigma"].view(-1, 1)
    box = [luck[name].squeeze(1) for name in COLUMNS[:5]] if recipe.crops or recipe.flip else None
    images = rotate(images, luck["angle"].flatten()) if recipe.rotate else images
    if color == "exact":
        x = colors.exact(resample(images, box, size), recipe, luck)
        x = blur(x, sigma) if recipe.blur else x
    else:
        x = resample(images, box, size, blur_matrix(sigma, size) if recipe.blur else None)
        x = colors.fast(x, luck) if recipe.jitter or recipe.gray else x
    if recipe.solarize:
        x = torch.where((luck["solarize"] > 0) & (x >= 0.5), 1 - x, x)
    if mean is not None:
        x = x.sub_(colors.constant(mean, x).view(-1, 1, 1))
    if std is not None:
        x = x.div_(colors.constant(std, x).view(-1, 1, 1))
    return cut_out(x, luck["cut_y"], luck["cut_x"], recipe.cutout) if recipe.cutout else x


def cut_out(x: Tensor, cut_y: Tensor, cut_x: Tensor, side: int) -> Tensor:
    """0 in a square around the pixel at cut_y, cut_x (B, 1, 1, 1) in [0, 1), shares of the view (B, C, S, S)."""
    place = torch.arange(x.shape[-1], device=x.device)
    # both (B, 1, 1, S)
    rows, columns = (place - (cut * x.shape[-1]).floor() + side // 2 for cut in (cut_y, cut_x))
    rows, columns = ((line >= 0) & (line < side) for line in (rows, columns))
    return x.masked_fill_(rows.mT & columns, 0)
