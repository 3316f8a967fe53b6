"""Residual networks of any depth and width, with a stem for small or for large images.

He et al. 2015, https://arxiv.org/abs/1512.03385
"""

from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveInt

# name: (width of each stage, blocks in each stage, bottleneck blocks, stem)
PRESETS = {
    "wide3": ((64, 128, 256), (1, 1, 1), False, "patch2"),  # few wide layers: the least time a pixel on CPUs
    "resnet20": ((16, 32, 64), (3, 3, 3), False, "cifar"),
    "resnet18": ((64, 128, 256, 512), (2, 2, 2, 2), False, "cifar"),
    "resnet34": ((64, 128, 256, 512), (3, 4, 6, 3), False, "cifar"),
    "resnet50": ((64, 128, 256, 512), (3, 4, 6, 3), True, "cifar"),
}


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Make the norm that an option names: `batch`, or `group` with 8 channels a group, where images stay apart."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(max(1, channels // 8), channels)


def conv_norm(
    c_in: int, c_out: int, kernel: int, stride: int, norm: str, relu: bool = True
) -> list[nn.Module]:
    """Make a convolution without bias, padded for its kernel, its norm and, unless `relu` is off, a ReLU."""
    padding = (kernel - 1) // 2
    layers = [nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False), norm_layer(norm, c_out)]
    return layers + [nn.ReLU(inplace=True)] * relu


def check_widths(network: str, widths: list[int], norm: str) -> None:
    """Raise where numbers of channels make no network."""
    if min(widths) < 1 or (norm == "group" and any(width % max(1, width // 8) for width in widths)):
        rule = "; for group norm, multiples of 8" if norm == "group" else ""
        raise MisconfigurationException(f"{network}: widths {widths} must be 1 or more{rule}")


class Block(nn.Module):
    """relu(shortcut(x) + residual(x)): two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width."""

    def __init__(
        self, c_in: PositiveInt, width: PositiveInt, stride: PositiveInt, bottleneck: bool, norm: str
    ):
        super().__init__()
        if bottleneck:
            c_out = 4 * width
            layers = conv_norm(c_in, width, 1, 1, norm) + conv_norm(width, width, 3, stride, norm)
            layers += conv_norm(width, c_out, 1, 1, norm, relu=False)
        else:
            c_out = width
            layers = conv_norm(c_in, width, 3, stride, norm) + conv_norm(width, width, 3, 1, norm, relu=False)
        self.residual = nn.Sequential(*layers)
        same = c_in == c_out and stride == 1
        projection = [] if same else conv_norm(c_in, c_out, 1, stride, norm, relu=False)
        self.shortcut = nn.Sequential(*projection) if projection else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Images (B, C, H, W) -> features (B, dim), the spatial mean of `maps`.

    Args:
        preset: widths, blocks and stem by name; the other arguments override it one by one.
        widths: channels of each stage; every stage but the first halves the resolution.
        blocks: residual blocks in each stage.
        stem: `cifar` is a 3x3 convolution with stride 1 and no pooling, for images of about 32 pixels; `patch2` a 2x2
            convolution with stride 2, a quarter of the cost; `imagenet` a 7x7 with stride 2 and a 3x3 max pooling with
            stride 2.
        in_channels: C.
        norm: `batch`, or `group` where images must not influence each other.
    """

    pooled = True

    def __init__(
        self,
        preset: Literal["wide3", "resnet20", "resnet18", "resnet34", "resnet50"] = "wide3",
        widths: list[PositiveInt] | None = None,
        blocks: list[PositiveInt] | None = None,
        stem: Literal["cifar", "patch2", "imagenet"] | None = None,
        in_channels: PositiveInt = 3,
        norm: Literal["batch", "group"] = "batch",
    ):
        super().__init__()
        preset_widths, preset_blocks, bottleneck, preset_stem = PRESETS[preset]
        widths = preset_widths if widths is None else widths
        blocks = preset_blocks if blocks is None else blocks
        if len(widths) != len(blocks):
            raise MisconfigurationException(
                f"ResNet: {len(widths)} widths but {len(blocks)} numbers of blocks: give one of each a stage"
            )
        if not blocks:
            raise MisconfigurationException("ResNet: give widths and blocks of one stage or more")
        check_widths("ResNet", [*widths], norm)
        kernel, stride = {"cifar": (3, 1), "patch2": (2, 2), "imagenet": (7, 2)}[stem or preset_stem]
        layers = conv_norm(in_channels, widths[0], kernel, stride, norm)
        if (stem or preset_stem) == "imagenet":
            layers.append(nn.MaxPool2d(3, 2, 1))
        self.stem = nn.Sequential(*layers)
        channels, stages = widths[0], []
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            for i in range(depth):
                stages.append(Block(channels, width, 2 if stage and i == 0 else 1, bottleneck, norm))
                channels = 4 * width if bottleneck else width
        self.stages = nn.Sequential(*stages)
        self.dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, h, w)"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean((2, 3))

    def group_matcher(self, coarse: bool = False) -> dict:
        """Which parameters are of one layer, in the order of layers, as timm's models tell it."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}
