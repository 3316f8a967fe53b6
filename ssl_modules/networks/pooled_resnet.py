"""A small residual network for 32x32 images on CPUs, which convolves every pixel before it pools.

After Page 2018, https://myrtle.ai/learn/how-to-train-your-resnet/, with one convolution in each residual branch.
"""

from typing import Literal

from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.networks.resnet import check_widths, conv_norm, norm_layer

# name: (channels of the first convolution, of each stage)
PRESETS = {"small": (16, (32, 128, 256)), "wide": (24, (64, 256, 256))}


class Residual(nn.Module):
    """x + relu(norm(conv(x)))"""

    def __init__(self, width: PositiveInt, norm: str):
        super().__init__()
        self.residual = nn.Sequential(*conv_norm(width, width, 3, 1, norm))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class PooledResNet(nn.Module):
    """Images (B, C, H, W) -> features (B, dim), the spatial mean of `maps`.

    A 3x3 convolution at full resolution, then in each stage a 3x3 convolution, 2x2 max pooling, norm, ReLU, and a
    residual branch of one more. No convolution has a stride, so that no pixel is skipped.

    Args:
        preset: `small` has about as many multiply-adds as the `wide3` of ResNet, `wide` 2.7 times as many.
        widths: channels of each stage, which halves the resolution, rounded down; in place of the preset's.
        stem: channels of the first convolution; in place of the preset's.
        in_channels: C.
        norm: `batch`, or `group` where images must not influence each other.
    """

    pooled = True

    def __init__(
        self,
        preset: Literal["small", "wide"] = "small",
        widths: tuple[PositiveInt, ...] | None = None,
        stem: PositiveInt | None = None,
        in_channels: PositiveInt = 3,
        norm: Literal["batch", "group"] = "batch",
    ):
        super().__init__()
        preset_stem, preset_widths = PRESETS[preset]
        stem = preset_stem if stem is None else stem
        widths = preset_widths if widths is None else widths
        check_widths(type(self).__name__, [stem, *widths], norm)
        layers, channels = conv_norm(in_channels, stem, 3, 1, norm), stem
        for width in widths:
            # pooled before the norm, which then costs a quarter
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [norm_layer(norm, width), nn.ReLU(inplace=True), Residual(width, norm)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.dim = channels

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, h, w)"""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean((2, 3))
