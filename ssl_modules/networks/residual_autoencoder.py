"""A residual encoder that learns how to shrink, and a decoder that learns how to enlarge.

Blocks: He et al. 2015, https://arxiv.org/abs/1512.03385
Upsampling by sub-pixel convolution: Shi et al. 2016 (ESPCN), https://arxiv.org/abs/1609.05158
"""

from itertools import pairwise
from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import NonNegativeInt, PositiveInt
from ssl_modules.networks.conv_autoencoder import check_side, halve_side
from ssl_modules.networks.resnet import Block, conv_norm, norm_layer


class ResidualEncoder(nn.Module):
    """Images (B, C, S, S) -> features (B, dim), a linear code of all of `maps`.

    Each stage is a 2x2 convolution with stride 2, then residual blocks; the decoder is its mirror image.

    Args:
        size: S, a multiple of 2 to the number of widths.
        in_channels: C.
        widths: channels of each stage; each halves the side.
        blocks: residual blocks in each stage.
        code: `dim`, the width of the features.
        norm: `batch`, or `group` where images must not influence each other.
    """

    pooled = False

    def __init__(
        self,
        size: PositiveInt = 32,
        in_channels: PositiveInt = 3,
        widths: tuple[PositiveInt, ...] = (32, 64, 128),
        blocks: NonNegativeInt = 1,
        code: PositiveInt = 128,
        norm: Literal["batch", "group"] = "batch",
    ):
        super().__init__()
        self.size, self.side = size, halve_side(size, widths)
        if norm == "group" and any(width % max(1, width // 8) for width in widths):
            raise MisconfigurationException(f"widths {list(widths)}: for group norm, take multiples of 8")
        self.channels, self.blocks, self.norm = [in_channels, *widths], blocks, norm
        self.dim = code
        layers = []
        for c_in, c_out in pairwise(self.channels):
            layers += conv_norm(c_in, c_out, 2, 2, norm) + self.make_stage(c_out)
        self.stages = nn.Sequential(*layers)
        self.code = nn.Linear(widths[-1] * self.side**2, code)

    def make_stage(self, width: int) -> list[nn.Module]:
        """Make the residual blocks of one stage."""
        return [Block(width, width, 1, False, self.norm) for _ in range(self.blocks)]

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, widths[-1], s, s)"""
        check_side(x, self.size)
        return self.stages(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self.maps(x).flatten(1))

    def decoder(self) -> nn.Sequential:
        """Features (B, dim) -> images (B, C, S, S), linear at the end.

        To double a side, a convolution gives four channels for each one wanted, and `PixelShuffle` lays them out as
        2x2 pixels.
        """
        channels, side = self.channels[::-1], self.side
        layers = [nn.Linear(self.dim, channels[0] * side**2), nn.Unflatten(1, (channels[0], side, side))]
        for c_in, c_out in pairwise(channels):
            layers += [
                *self.make_stage(c_in),
                nn.Conv2d(c_in, 4 * c_out, 3, padding=1, bias=False),
                nn.PixelShuffle(2),
            ]
            layers += [norm_layer(self.norm, c_out), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers[:-2])
