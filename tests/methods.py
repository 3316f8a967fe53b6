"""The table of tested methods, and what builds and trains one of them in a blink."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import nn

from ssl_modules.base import SSLModule
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR


def small_resnet(norm: str) -> nn.Module:
    return ResNet(widths=[8, 16], blocks=[1, 1], norm=norm)


class Case(NamedTuple):
    """A method and its arguments for small tests, on 16x16 images of 3 channels and 4 classes.

    Args:
        encoder: builds one; `norm` is "batch", or "group" where images must not influence each other.
        reads_labels: of the few whose loss may.
        mean, std: what pixels in [0, 1] are normalised with.
    """

    method: type[SSLModule]
    arguments: dict[str, Any]
    encoder: Callable[[str], nn.Module] = small_resnet
    reads_labels: bool = False
    mean: float = 0.5
    std: float = 0.25


METHODS = [  # one line a method: it has to keep every promise of test_methods.py
    Case(SimCLR, {"hidden_dim": 16, "out_dim": 8}),
]


def build(case: Case, norm: str = "batch", **shared: Any) -> SSLModule:
    """The method on a tiny encoder, always with the same weights."""
    torch.manual_seed(0)
    return case.method(encoder=case.encoder(norm), **(case.arguments | shared))


def train(method: SSLModule, data: LightningDataModule, folder: Path, **options: Any) -> Trainer:
    """A short, quiet fit from seed 0."""
    seed_everything(0, verbose=False)
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": folder,
    }
    trainer = Trainer(**(quiet | {"max_epochs": 1} | options))
    trainer.fit(method, data)
    return trainer
