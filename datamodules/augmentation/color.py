"""Color of a batch of images (B, C, H, W) in [0, 1], every image with its own factors, each of shape (B, 1, 1, 1).

The order is brightness, contrast, saturation, hue, grayscale. `jitter_exactly` does what torchvision's functions do,
one after the other; `jitter_fast` is one affine map an image. Both may change the images that they get in place.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # torchvision's, after ITU-R BT.601
# of the hue, in NTSC's YIQ
QUARTER_TURN = ((-0.169, -0.330, 0.498), (0.328, -0.035, -0.293), (-1.247, 1.043, 0.203))


def to_device_of(like: Tensor, values: Sequence) -> Tensor:
    """Send values to the device of `like` without waiting for it, as `like.new_tensor` would."""
    return torch.tensor(values).to(like.device, non_blocking=True)


def compute_luma(x: Tensor) -> Tensor:
    """Compute the brightness that a person sees, (B, 3, H, W) -> (B, 1, H, W); not of 3 channels: their mean."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    r, g, b = x.split(1, dim=1)
    return (LUMA[0] * r).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2])


def blend_images(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x + (1 - factor) * other, clamped: torchvision's adjustments except that of the hue."""
    return x.mul_(factor).add_((1 - factor) * other).clamp_(0, 1)


def shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Do what RGB to HSV, hue + turns, and HSV to RGB do, in one step.

    With c the largest channel minus the smallest, a channel is the smallest + c * clamp(6 d - 1, 0, 1), where d is the
    way around the wheel, in turns, from the hue to the opposite of the channel's own color.
    """
    r, g, b = x.split(1, dim=1)
    high, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    c6 = (high - low).mul_(6)
    per_c = c6.clamp(min=1e-12).reciprocal_()
    side = (g - b).mul_(per_c)  # the hue where red is largest, in [-1/6, 1/6]
    away = (high - r).mul_(per_c)  # 0 where red is largest, 1/6 where it is smallest
    # the hue everywhere, in [-1/2, 1/2]
    hue = torch.copysign(3 * away, side).add_(side).sub_(side.mul_(away), alpha=12)
    channel_hue = torch.arange(3, device=x.device).view(3, 1, 1) / 3  # of red, green, blue
    # + 2: a whole number that makes it positive
    d = torch.add(hue, turns - channel_hue + 2, out=x).frac_().sub_(0.5).abs_()
    return d.clamp_(1 / 6, 1 / 3).sub_(1 / 6).mul_(c6).add_(low).clamp_(0, 1)


def jitter_exactly(x: Tensor, recipe, params: dict[str, Tensor]) -> Tensor:
    """Apply each operation as torchvision does."""
    if recipe.jitter and recipe.brightness:
        x = x.mul_(params["brightness"]).clamp_(0, 1)
    if recipe.jitter and recipe.contrast:
        x = blend_images(x, compute_luma(x.mean((2, 3), keepdim=True)), params["contrast"])
    if recipe.jitter and recipe.saturation:
        x = blend_images(x, compute_luma(x), params["saturation"])
    if recipe.jitter and recipe.hue:
        x = shift_hue(x, params["hue"])
    return blend_images(x, compute_luma(x), 1 - params["gray"]) if recipe.gray else x


def jitter_fast(x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Apply one matrix and one offset an image, and one clamp at the end.

    The result differs from that of `jitter_exactly` where that clamps on the way, and in the hue: it turns in YIQ,
    where a turn is linear.
    """
    brightness, contrast = params["brightness"], params["contrast"]
    offset = brightness * (1 - contrast) * compute_luma(x.mean((2, 3), keepdim=True))  # (B, 1, 1, 1)
    gain = (brightness * contrast).squeeze(1)
    mixed = torch.baddbmm(offset.squeeze(1), gain * color_matrix(params, x.shape[1]), x.flatten(2))
    return mixed.clamp_(0, 1).view_as(x)


def color_matrix(params: dict[str, Tensor], channels: int) -> Tensor:
    """Combine saturation, hue and grayscale into one matrix (B, C, C). All keep the luma."""
    saturation, turns, gray = (params[name].squeeze(1) for name in ("saturation", "hue", "gray"))
    eye = torch.eye(channels, device=turns.device)
    if channels != 3:
        return eye.expand(len(turns), channels, channels)
    to_gray, quarter_turn = to_device_of(turns, (LUMA, LUMA, LUMA)), to_device_of(turns, QUARTER_TURN)
    cos, sin = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    return to_gray + (1 - gray) * saturation * (cos * (eye - to_gray) + sin * quarter_turn)
