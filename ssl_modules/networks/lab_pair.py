"""Two networks side by side, one for the lightness of an image and one for its color.

Tian et al. 2019, https://arxiv.org/abs/1906.05849
"""

from typing import Literal

import torch
from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.networks.lab import rgb_to_lab
from ssl_modules.networks.resnet import PRESETS, ResNet


class LabPair(nn.Module):
    """Images (B, 3, H, W), sRGB in [0, 1] -> features (B, dim): luminance's, then chromaticity's.

    Args:
        preset, widths, blocks, stem, norm: of both networks, see ResNet.
        half_width: half of the channels in each, as the paper has it, so that both together are as wide as one ResNet.
    """

    pooled, in_channels = True, 3

    def __init__(
        self,
        preset: Literal["wide3", "resnet20", "resnet18", "resnet34", "resnet50"] = "wide3",
        widths: list[PositiveInt] | None = None,
        blocks: list[PositiveInt] | None = None,
        stem: Literal["cifar", "patch2", "imagenet"] | None = None,
        norm: Literal["batch", "group"] = "batch",
        half_width: bool = False,
    ):
        super().__init__()
        widths = PRESETS[preset][0] if widths is None else widths
        widths = [width // 2 if half_width else width for width in widths]
        self.luminance = ResNet(preset, widths, blocks, stem, in_channels=1, norm=norm)
        self.chromaticity = ResNet(preset, widths, blocks, stem, in_channels=2, norm=norm)
        self.dim = self.luminance.dim + self.chromaticity.dim

    def split_color(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> L (B, 1, H, W) and ab (B, 2, H, W), float32, with the ranges of sRGB's colors as [-1, 1]."""
        lightness, a, b = rgb_to_lab(view).split(1, dim=1)
        return lightness / 50 - 1, torch.cat([(a - 6.03) / 92.21, (b + 6.69) / 101.17], dim=1)

    def encode_pair(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> features of luminance and of chromaticity, (B, dim / 2) each."""
        luminance, chromaticity = self.split_color(view)
        return self.luminance(luminance), self.chromaticity(chromaticity)

    def maps(self, view: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim, h, w)"""
        luminance, chromaticity = self.split_color(view)
        return torch.cat([self.luminance.maps(luminance), self.chromaticity.maps(chromaticity)], dim=1)

    def forward(self, view: Tensor) -> Tensor:
        return torch.cat(self.encode_pair(view), dim=1)

    def group_matcher(self, coarse: bool = False) -> dict:
        """Which parameters are of one layer, in the order of layers: those of both networks side by side."""
        return {"stem": r"^\w+\.stem", "blocks": r"^\w+\.stages\.(\d+)"}
