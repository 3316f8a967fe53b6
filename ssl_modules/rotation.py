"""Rotation of square images by quarter turns, pixel by pixel."""

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor


def rotate_four_ways(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate every image by 0, 90, 180 and 270 degrees, counter-clockwise. Pixels move, none is interpolated.

    Args:
        images: (B, C, S, S).

    Returns:
        Copies (4B, C, S, S): all images upright, then all turned once, twice, three times. Targets (4B,), int64: how
        many quarter turns.

    Raises:
        MisconfigurationException: the images are not square.
    """
    height, width = images.shape[2:]
    if height != width:
        raise MisconfigurationException(
            f"quarter turns need square images, these have {height}x{width} pixels: crop or resize them to a square"
        )
    copies = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return copies, torch.arange(4, device=images.device).repeat_interleave(len(images))
