"""Encoders of 32x32 images that speed is measured on, by name: `pooled`, of the configs, and presets of ResNet."""

from torch import nn

from ssl_modules.networks.conv import speed_up_convolutions
from ssl_modules.networks.pooled_resnet import PooledResNet
from ssl_modules.networks.resnet import ResNet

NAMES = ("pooled", "wide3", "resnet20", "resnet18")


def build_encoder(name: str) -> nn.Module:
    encoder = PooledResNet() if name == "pooled" else ResNet(name)
    speed_up_convolutions(encoder)  # as training does
    return encoder


def encoder_options(name: str) -> dict[str, str]:
    """The same for cli.py."""
    if name == "pooled":
        return {"model.init_args.encoder": "ssl_modules.networks.pooled_resnet.PooledResNet"}
    return {
        "model.init_args.encoder": "ssl_modules.networks.resnet.ResNet",
        "model.init_args.encoder.init_args.preset": name,
    }
