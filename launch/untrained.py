"""A fresh initialization of an encoder that a config builds with somebody else's weights."""

from pathlib import Path

import torch
from lightning.pytorch import Callback
from torch import nn

from callbacks.evaluation.protocol import Protocol
from callbacks.evaluation.starting_encoders import has_pretrained_weights
from launch.export import build_class, encoder_spec


def build_untrained_encoder(config: dict) -> nn.Module:
    """Build the encoder of a whole config without its weights, from the config's seed; no other draw changes.

    Raises:
        MisconfigurationException: the config has no block for its encoder, or the encoder cannot be built so.
    """
    spec = encoder_spec(config, Path("config.yaml"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.get("seed_everything") or 0)
        return build_class(spec, nn.Module)


def give_untrained_encoder(callbacks: list[Callback], encoder: nn.Module, config: dict) -> None:
    """Give the protocol the encoder's fresh initialization, where the encoder itself was built with weights."""
    protocols = [callback for callback in callbacks if isinstance(callback, Protocol)]
    if protocols and has_pretrained_weights(encoder):
        fresh = build_untrained_encoder(config)
        for protocol in protocols:
            protocol.fresh = fresh
