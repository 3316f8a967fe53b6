"""Conversion of sRGB to CIE Lab, where lightness is apart from hue and distances are about as large as they look.

IEC 61966-2-1 (sRGB) and CIE 15 (Lab), white D65 for the 2 degree observer; the same constants as scikit-image's.
"""

import torch
from torch import Tensor

WHITE = (0.95047, 1.0, 1.08883)  # X, Y, Z of D65
XYZ = (  # of linear red, green, blue
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
KNEE = 6 / 29  # the cube root's lower end, where a line takes over


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] -> float32 (B, 3, H, W): L in [0, 100], a in [-86.2, 98.3], b in [-107.9, 94.5].

    Grays from black to white have L from 0 to 100 and a = b = 0 to within 0.01. Gradients are finite everywhere.
    """
    rgb = rgb.float()
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    # sums rather than a matrix product, which autocast and TF32 would round
    red, green, blue = linear.unbind(1)
    ratios = [(x * red + y * green + z * blue) / white for (x, y, z), white in zip(XYZ, WHITE, strict=True)]
    fx, fy, fz = (
        torch.where(t > KNEE**3, t.clamp(min=KNEE**3) ** (1 / 3), t / (3 * KNEE**2) + 4 / 29) for t in ratios
    )
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=1)
