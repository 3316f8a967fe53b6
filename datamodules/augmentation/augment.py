"""Augmentation of a whole batch at once, on the device of the batch, every image with its own parameters."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from datamodules.augmentation import color as colors
from datamodules.augmentation.geometry import blur_images, blur_matrix, resample_images, rotate_images
from datamodules.augmentation.recipe import Recipe

COLUMNS = (
    *("top", "left", "height", "width", "flip"),
    *("brightness", "contrast", "saturation", "hue", "gray", "sigma", "solarize", "angle"),
    *("cut_y", "cut_x"),
)
TRIES = 10  # boxes tried before the central one, as in torchvision's RandomResizedCrop
CHUNK = 2**18  # numbers (1 MB of float32) worked on at a time on a CPU, so that they stay in its cache


def draw_params(
    recipe: Recipe,
    n: int,
    size: tuple[int, int],
    generator: torch.Generator,
    local: slice = slice(None),
) -> Tensor:
    """Draw the parameters of n images of size (H, W): (n, 15) on the CPU, a column of `COLUMNS` each, an image a row.

    Every recipe takes the same count of numbers from the generator for an image; one more if it rotates, and two if it
    cuts out. Of the n images of all processes, only the rows `local` are worked out and returned.
    """
    draws = torch.rand(n, 2 * TRIES + 12, generator=generator)[local]
    angle_draws = torch.rand(n, generator=generator)[local] if recipe.rotate else None
    cut = torch.rand(2, n, generator=generator)[:, local] if recipe.cutout else torch.zeros(2, len(draws))
    crop_draws, draws = draws[:, : 2 * TRIES + 2], draws[:, 2 * TRIES + 2 :].T
    probabilities = torch.tensor([recipe.flip, recipe.jitter, recipe.gray, recipe.blur, recipe.solarize])
    flip, jitter, gray, blur, solarize = draws[:5] < probabilities.unsqueeze(1)
    brightness, contrast, saturation = (
        torch.where(jitter, scale_to_range(max(0, 1 - x), 1 + x, u), 1)
        for x, u in zip((recipe.brightness, recipe.contrast, recipe.saturation), draws[5:8], strict=True)
    )
    hue = torch.where(jitter, scale_to_range(-recipe.hue, recipe.hue, draws[8]), 0)
    sigma = torch.where(blur, scale_to_range(*recipe.sigma, draws[9]), 0)
    box = torch.tensor([[0, 0, *size]]).expand(len(flip), 4)
    if recipe.crops:
        box = make_crop_boxes(recipe, *size, crop_draws)
    angle = torch.zeros(len(flip))
    if recipe.rotate:
        angle = scale_to_range(-recipe.rotate, recipe.rotate, angle_draws)
    color = brightness, contrast, saturation, hue, gray, sigma, solarize
    columns = (*box.unbind(1), flip, *color, angle, *cut)
    return torch.stack([column.float() for column in columns], dim=1)


def scale_to_range(low: float, high: float, u: Tensor) -> Tensor:
    """Map u in [0, 1) to [low, high)."""
    return low + (high - low) * u


def make_crop_boxes(recipe: Recipe, height: int, width: int, draws: Tensor) -> Tensor:
    """Turn draws (n, 22), uniform in [0, 1), into crops (n, 4): top, left, height, width.

    Resized crops are distributed as torchvision's.
    """
    if recipe.crop:
        side, pad = torch.full((len(draws),), float(recipe.crop)), recipe.pad
        padded = place_boxes(side, side, height + 2 * pad, width + 2 * pad, draws)
        return padded - torch.tensor([pad, pad, 0, 0])
    area = height * width * scale_to_range(*recipe.scale, draws[:, :TRIES])
    log_ratio = (math.log(r) for r in recipe.ratio)
    aspect = scale_to_range(*log_ratio, draws[:, TRIES : 2 * TRIES]).exp()  # (n, tries)
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.byte().argmax(1, keepdim=True)
    h, w = h.gather(1, first).squeeze(1), w.gather(1, first).squeeze(1)
    low, high = recipe.ratio
    fallback_w, fallback_h = min(width, round(height * high)), min(height, round(width / low))
    fallback = [(height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w]
    boxes = place_boxes(h, w, height, width, draws)
    return torch.where(fits.any(1, keepdim=True), boxes, torch.tensor(fallback))


def place_boxes(h: Tensor, w: Tensor, height: int, width: int, draws: Tensor) -> Tensor:
    """Place boxes of h x w (n,) pixels in the image, uniformly by the last two columns of the draws: (n, 4)."""
    top, left = ((height - h + 1) * draws[:, -2]).floor(), ((width - w + 1) * draws[:, -1]).floor()
    return torch.stack([top, left, h, w], dim=1)


def augment_images(
    images: Tensor,
    recipe: Recipe,
    params: Tensor,
    size: int | None = None,
    color: Literal["exact", "fast"] = "exact",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """Make one view of every image.

    Args:
        images: uint8 (B, H, W, C), on any device.
        params: the rows of `draw_params` for these images, (B, 15).
        size: S, the side of a view whose recipe has none; the crop's or else the images' shorter side if None.
        color: "exact" is torchvision's, in a fixed order; "fast" is one affine map an image, with the blur in the crop.
        mean, std: one number a channel, to normalize with.

    Returns:
        float32 (B, C, S, S), in [0, 1] before it is normalized.
    """
    size = recipe.size or size or recipe.crop or min(images.shape[1:3])
    params = params.to(images.device, non_blocking=True)
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return augment_chunk(images, recipe, params, size, color, mean, std)
    sigma = params[:, COLUMNS.index("sigma")]
    views = torch.empty(len(images), images.shape[3], size, size)
    order = sigma.argsort(stable=True)  # images without blur come together, and skip it
    for rows in order.split(max(1, CHUNK // images[0].numel())):
        chunk_recipe = recipe if sigma[rows].any() else replace(recipe, blur=0.0)
        chunk = augment_chunk(
            images.index_select(0, rows), chunk_recipe, params[rows], size, color, mean, std
        )
        views.index_copy_(0, rows, chunk)
    return views


def augment_chunk(images: Tensor, recipe: Recipe, params: Tensor, size: int, color: str, mean, std) -> Tensor:
    """`augment_images` as many images as a cache holds. Nothing here waits for the device."""
    columns = {name: column.view(-1, 1, 1, 1) for name, column in zip(COLUMNS, params.unbind(1), strict=True)}
    sigma = columns["sigma"].view(-1, 1)
    box = [columns[name].squeeze(1) for name in COLUMNS[:5]] if recipe.crops or recipe.flip else None
    images = rotate_images(images, columns["angle"].flatten()) if recipe.rotate else images
    if color == "exact":
        x = colors.jitter_exactly(resample_images(images, box, size), recipe, columns)
        x = blur_images(x, sigma) if recipe.blur else x
    else:
        x = resample_images(images, box, size, blur_matrix(sigma, size) if recipe.blur else None)
        x = colors.jitter_fast(x, columns) if recipe.jitter or recipe.gray else x
    if recipe.solarize:
        x = torch.where((columns["solarize"] > 0) & (x >= 0.5), 1 - x, x)
    if mean is not None:
        x = x.sub_(colors.to_device_of(x, mean).view(-1, 1, 1))
    if std is not None:
        x = x.div_(colors.to_device_of(x, std).view(-1, 1, 1))
    return cut_out(x, columns["cut_y"], columns["cut_x"], recipe.cutout) if recipe.cutout else x


def cut_out(x: Tensor, cut_y: Tensor, cut_x: Tensor, side: int) -> Tensor:
    """Set to 0 a square around the pixel at cut_y, cut_x (B, 1, 1, 1) in [0, 1), fractions of the view (B, C, S, S)."""
    pixel = torch.arange(x.shape[-1], device=x.device)
    # both (B, 1, 1, S)
    rows, columns = (pixel - (cut * x.shape[-1]).floor() + side // 2 for cut in (cut_y, cut_x))
    rows, columns = ((line >= 0) & (line < side) for line in (rows, columns))
    return x.masked_fill_(rows.mT & columns, 0)
