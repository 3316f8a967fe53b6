"""Encoders of a variational autoencoder, each with the decoder that mirrors it.

Batch norm, leaky ReLU 0.2 and convolutions with stride 2 in place of pooling: Radford et al. 2015,
https://arxiv.org/abs/1511.06434
"""

from itertools import pairwise
from typing import Literal

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.networks.resnet import norm_layer


def leaky_relu() -> nn.Module:
    """Make the activation of all networks here."""
    return nn.LeakyReLU(0.2, inplace=True)


class GaussianEncoder(nn.Module):
    """Images (B, C, S, S) -> a Gaussian over latents with independent components; the features are its mean.

    A subclass adds `trunk`, which turns images into the input of `heads`, and `decoder`.

    Args:
        size: S.
        in_channels: C.
        latent: D, the width of the latent.
        width: of the output of `trunk`, flattened.
    """

    pooled = False

    def __init__(self, size: PositiveInt, in_channels: PositiveInt, latent: PositiveInt, width: PositiveInt):
        super().__init__()
        self.in_channels, self.image_shape = in_channels, (in_channels, size, size)
        self.dim = latent
        self.heads = nn.Linear(width, 2 * latent)  # mean and log-variance

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, S, S) -> mean (B, D), log-variance (B, D)

        Raises:
            MisconfigurationException: images of another shape.
        """
        if x.shape[1:] != self.image_shape:
            shape, expected = ("x".join(map(str, sides)) for sides in (x.shape[1:], self.image_shape))
            raise MisconfigurationException(
                f"{type(self).__name__} is made for images of {expected}, these are {shape}: set the encoder's size "
                "and in_channels to those of the data"
            )
        return self.heads(self.trunk(x).flatten(1)).chunk(2, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]


class VAEMLP(GaussianEncoder):
    """One hidden layer, and one in the decoder.

    Args:
        size, in_channels: S and C of the images.
        hidden: units of the hidden layer.
        latent: D, the width of the latent.
    """

    def __init__(
        self,
        size: PositiveInt,
        in_channels: PositiveInt = 3,
        hidden: PositiveInt = 512,
        latent: PositiveInt = 512,
    ):
        super().__init__(size, in_channels, latent, hidden)
        self.hidden, self.pixels = hidden, in_channels * size**2
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(self.pixels, hidden), leaky_relu())

    def decoder(self, conditions: int = 0) -> nn.Module:
        """Latents (B, D + conditions) -> (B, C, S, S), of any range."""
        layers = [nn.Linear(self.dim + conditions, self.hidden), leaky_relu()]
        return nn.Sequential(*layers, nn.Linear(self.hidden, self.pixels), nn.Unflatten(1, self.image_shape))


class ResidualBlock(nn.Module):
    """leaky(x + residual(x)): two 3x3 convolutions, (B, C, h, w) -> (B, C, h, w). He et al. 2015, arXiv:1512.03385

    The last norm starts at a tenth, so that an untrained block passes its input on almost unchanged (near the zero of
    Goyal et al. 2017, section 5.1, arXiv:1706.02677); without this the deep network hardly uses its latents at first.
    """

    def __init__(self, channels: PositiveInt, norm: str):
        super().__init__()
        layers = [
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm_layer(norm, channels),
            leaky_relu(),
        ]
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm_layer(norm, channels)]
        self.residual = nn.Sequential(*layers)
        nn.init.constant_(layers[-1].weight, 0.1)
        self.activation = leaky_relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.residual(x))


class VAEConv(GaussianEncoder):
    """Convolutions 4x4 with stride 2 and padding 1, each half the side and twice the width of the one before.

    Args:
        size, in_channels: S and C of the images.
        width: channels of the first convolution.
        stages: number of convolutions.
        residual: put a residual block behind each convolution, and before each transposed one of the decoder.
        latent: D, the width of the latent.
        norm: `batch`, or `group` where images must not influence each other.
    """

    def __init__(
        self,
        size: PositiveInt,
        in_channels: PositiveInt = 3,
        width: PositiveInt = 32,
        stages: PositiveInt = 5,
        residual: bool = False,
        latent: PositiveInt = 512,
        norm: Literal["batch", "group"] = "batch",
    ):
        if size % 2**stages:
            raise MisconfigurationException(
                f"VAEConv: images with a side of {size} pixels cannot be halved {stages} times: take a size that is a "
                f"multiple of 2 ** stages"
            )
        widths = [width * 2**stage for stage in range(stages)]
        side = size >> stages
        super().__init__(size, in_channels, latent, widths[-1] * side**2)
        self.widths, self.side, self.residual, self.norm = widths, side, residual, norm
        layers = []
        for c_in, c_out in pairwise([in_channels, *widths]):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), norm_layer(norm, c_out), leaky_relu()]
            layers += self.make_block(c_out)
        self.trunk = nn.Sequential(*layers)

    def make_block(self, channels: int) -> list[nn.Module]:
        """Make a residual block, or nothing."""
        return [ResidualBlock(channels, self.norm)] if self.residual else []

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, width of the last convolution, h, w)"""
        return self.trunk(x)

    def decoder(self, conditions: int = 0) -> nn.Module:
        """Latents (B, D + conditions) -> (B, C, S, S), of any range, by transposed convolutions."""
        widths = self.widths[::-1]
        layers = [
            nn.Linear(self.dim + conditions, widths[0] * self.side**2, bias=False),
            nn.Unflatten(1, (widths[0], self.side, self.side)),
            norm_layer(self.norm, widths[0]),
            leaky_relu(),
        ]
        for c_in, c_out in pairwise(widths):
            layers += self.make_block(c_in)
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False)]
            layers += [norm_layer(self.norm, c_out), leaky_relu()]
        layers += self.make_block(self.widths[0])
        return nn.Sequential(*layers, nn.ConvTranspose2d(self.widths[0], self.image_shape[0], 4, 2, 1))
