"""Crop, antialiased resize, flip and blur of a batch: a linear map of the rows and one of the columns of each image.

R_y X R_x^T with two small banded matrices an image: a batch is two batched matrix products.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resample_images(
    images: Tensor, box: Sequence[Tensor] | None, size: int, blur: Tensor | None = None
) -> Tensor:
    """Crop, resize, flip and, if given, blur: (B, H, W, C) in [0, 255] -> (B, C, S, S) in [0, 1].

    Args:
        box: top, left, height, width and flip (0 or 1), each (B, 1, 1); the whole image if None.
        blur: `blur_matrix`.
    """
    batch, height, width, channels = images.shape
    if box is None and blur is None and height == width == size:
        return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255
    if box is None:
        side = images.new_tensor([0, 0, height, width, 0], dtype=torch.float32)
        box = side.view(5, 1, 1, 1).expand(5, batch, 1, 1)
    top, left, h, w, flip = box
    rows = resize_matrix(top, h, size, height).div_(255)
    columns = resize_matrix(left, w, size, width, flip)
    if blur is not None:
        rows, columns = blur @ rows, blur @ columns
    x = rows @ images.flatten(2).float()  # (B, S, W * C)
    x = x.view(batch, size, width, channels).permute(0, 3, 1, 2).reshape(batch, channels * size, width)
    return (x @ columns.mT).view(batch, channels, size, size)


def resize_matrix(start: Tensor, length: Tensor, size: int, side: int, flip: Tensor | float = 0.0) -> Tensor:
    """Return the linear map (B, size, side) of a line of pixels to its part from `start`, resized.

    It is bilinear and antialiased: each output pixel is a mean of the input under a triangle two pixels wide, of the
    coarser grid (PIL, torchvision); 0 where there is no input.
    """
    scale = length / size  # (B, 1, 1)
    out = torch.arange(size, device=start.device).view(-1, 1) + 0.5
    pixel = torch.arange(side, device=start.device) + 0.5
    center = start + scale * (out + flip * (size - 2 * out))
    inside = ((pixel > start) & (pixel < start + length)).float()
    weight = (pixel - center).abs_().div_(-scale.clamp(min=1)).add_(1).clamp_(min=0).mul_(inside)
    return weight.div_(weight.sum(2, keepdim=True).clamp_(min=1e-6))


def crop_center(images: Tensor, side: int) -> Tensor:
    """Keep the central square, where torchvision's center_crop puts it: (B, H, W, C) -> (B, side, side, C)"""
    top, left = (round((length - side) / 2) for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def rotate_images(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate about the center, counter-clockwise by `angle` (B,) degrees: (B, H, W, C) -> float32 (B, H, W, C).

    Bilinear; black where there was no image.
    """
    height, width = images.shape[1:3]
    cos, sin, zero = angle.deg2rad().cos(), angle.deg2rad().sin(), torch.zeros_like(angle)
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    x = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return x.permute(0, 2, 3, 1)


def blur_images(x: Tensor, sigma: Tensor) -> Tensor:
    """Apply Gaussian blur of sigma (B, 1), 0 for none, to (B, C, S, S)."""
    matrix = blur_matrix(sigma, x.shape[2])
    return matrix.unsqueeze(1) @ (x.flatten(1, 2) @ matrix.mT).view_as(x)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Return the linear map (B, size, size) of a line of pixels to its blur by sigma (B, 1), borders reflected."""
    radius = max(1, size // 10 // 2)  # SimCLR: a kernel of 10 % of the side
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (distance / sigma.clamp(min=0.01)) ** 2)  # (B, 2r + 1)
    kernel = kernel / kernel.sum(1, keepdim=True)
    line = torch.eye(size, device=sigma.device)  # one pixel lit, in each of its places
    windows = F.pad(line, (radius, radius), mode="reflect").unfold(1, 2 * radius + 1, 1).transpose(0, 1)
    return (kernel @ windows.flatten(0, 1).T).view(-1, size, size)
