"""VGG11, the smallest network of VGG, for small images.

Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556
"""

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveInt, ShareBelowOne
from ssl_modules.networks.resnet import conv_norm

# configuration A, table 1; a 2x2 max pooling after each
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
    """Configuration A without its classifier: images (B, C, S, S) -> the last hidden layer (B, dim).

    Eight 3x3 convolutions with five poolings, then two hidden fully connected layers.

    Args:
        in_channels: C.
        img_size: S, a multiple of 32.
        hidden_dim: width of the two hidden layers; 4096 in the paper, for images of 224 pixels.
        batch_norm: after each convolution; the paper has none.
        dropout: of the hidden layers, in training; 0.5 in the paper.

    Raises:
        MisconfigurationException: `img_size` is no multiple of 32, or an image of another size comes.
    """

    pooled = False

    def __init__(
        self,
        in_channels: PositiveInt = 3,
        img_size: PositiveInt = 32,
        hidden_dim: PositiveInt = 512,
        batch_norm: bool = True,
        dropout: ShareBelowOne = 0.0,
    ):
        super().__init__()
        if img_size < 32 or img_size % 32:
            raise MisconfigurationException(
                f"VGG11: img_size {img_size} is no multiple of 32, and five poolings halve it five times: "
                "set it, and data.init_args.size, to 32 or 64"
            )
        self.img_size, self.dim = img_size, hidden_dim
        layers, channels = [], in_channels
        for stage in STAGES:
            for width in stage:
                layers += conv_relu(channels, width, batch_norm)
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            *hidden_layer(channels * (img_size // 32) ** 2, hidden_dim, dropout),
            *hidden_layer(hidden_dim, hidden_dim, dropout),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, 512, S / 32, S / 32)"""
        height, width = x.shape[2:]
        if (height, width) != (self.img_size, self.img_size):
            raise MisconfigurationException(
                f"VGG11 was built for images of {self.img_size}x{self.img_size} pixels, these have {height}x{width}: "
                f"set data.init_args.size to {self.img_size}, or img_size of the encoder to another multiple of 32"
            )
        return self.convolutions(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(self.maps(x).flatten(1))


def conv_relu(c_in: int, c_out: int, batch_norm: bool) -> list[nn.Module]:
    """Make a 3x3 convolution with ReLU, and batch norm between them where wanted."""
    if batch_norm:
        return conv_norm(c_in, c_out, 3, 1, "batch")
    return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(inplace=True)]


def hidden_layer(d_in: int, d_out: int, dropout: float) -> list[nn.Module]:
    """Make a fully connected layer with ReLU and dropout."""
    return [nn.Linear(d_in, d_out), nn.ReLU(inplace=True), nn.Dropout(dropout)]
