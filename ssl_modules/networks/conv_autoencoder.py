"""A plain convolutional encoder and its mirror image: every convolution is 4x4 with stride 2 and padding 1.

Radford et al. 2015 have such layers, in both directions, https://arxiv.org/abs/1511.06434
"""

from collections.abc import Sequence
from itertools import pairwise

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveInt


def halve_side(size: int, widths: Sequence[int]) -> int:
    """Compute the side of the maps of a `size` x `size` image after one halving for each width.

    Raises:
        MisconfigurationException: no widths, or a size that does not halve so often.
    """
    if not widths:
        raise MisconfigurationException("widths []: give one number or more")
    factor = 2 ** len(widths)
    if size % factor:
        raise MisconfigurationException(
            f"size {size} does not halve evenly {len(widths)} times, once for each of the widths "
            f"{list(widths)}: take a multiple of {factor}, or fewer widths"
        )
    return size // factor


def check_side(x: Tensor, size: int) -> None:
    """Raise where images (B, C, H, W) are not `size` x `size`: the features would not have `dim` columns."""
    if x.shape[2:] != (size, size):
        raise MisconfigurationException(
            f"the encoder is built for {size}x{size} images and was given {x.shape[2]}x{x.shape[3]}: "
            "set the encoder's size to the side of the views"
        )


class ConvEncoder(nn.Module):
    """Images (B, C, S, S) -> features (B, dim), the flattened `maps`; ReLU after each convolution, the last too.

    Args:
        size: S, a multiple of 2 to the number of widths; `dim` is the last width times (S / that)^2.
        in_channels: C.
        widths: channels of each convolution; each halves the side.
    """

    pooled = False

    def __init__(
        self,
        size: PositiveInt = 64,
        in_channels: PositiveInt = 3,
        widths: tuple[PositiveInt, ...] = (12, 24, 48, 24),
    ):
        super().__init__()
        self.size, self.side = size, halve_side(size, widths)
        self.channels = [in_channels, *widths]
        self.dim = widths[-1] * self.side**2
        layers = []
        for c_in, c_out in pairwise(self.channels):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, widths[-1], s, s)"""
        check_side(x, self.size)
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).flatten(1)

    def decoder(self) -> nn.Sequential:
        """Features (B, dim) -> images (B, C, S, S): transposed convolutions, ReLU between them, linear at the end."""
        channels = self.channels[::-1]
        layers = [nn.Unflatten(1, (channels[0], self.side, self.side))]
        for c_in, c_out in pairwise(channels):
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers[:-1])
