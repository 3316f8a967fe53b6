"""The table of tested methods, and what builds and trains one of them in a blink."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import nn

from callbacks.evaluation.epoch_means import EpochMeans
from launch.preflight import Preflight
from ssl_modules.autoencoder import Autoencoder
from ssl_modules.barlow_twins import BarlowTwins
from ssl_modules.base import SSLModule
from ssl_modules.byol import BYOL
from ssl_modules.classifier import Classifier
from ssl_modules.cmc import CMC
from ssl_modules.dino import DINO
from ssl_modules.dinov2 import DINOv2
from ssl_modules.distillation import Distillation
from ssl_modules.ibot import IBOT
from ssl_modules.ijepa import IJEPA
from ssl_modules.lejepa import LeJEPA
from ssl_modules.mae import MAE
from ssl_modules.moco import MoCo
from ssl_modules.moco_v3 import MoCoV3
from ssl_modules.networks.char_lstm import CharLSTM
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.lab_pair import LabPair
from ssl_modules.networks.residual_autoencoder import ResidualEncoder
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.vae import VAEMLP, VAEConv
from ssl_modules.networks.vit import ViT
from ssl_modules.next_character import NextCharacter
from ssl_modules.nnclr import NNCLR
from ssl_modules.rotnet import RotNet
from ssl_modules.simclr import SimCLR
from ssl_modules.simsiam import SimSiam
from ssl_modules.supcon import SupCon
from ssl_modules.swav import SwAV
from ssl_modules.vae import VAE
from ssl_modules.vicreg import VICReg


def small_resnet(norm: str) -> nn.Module:
    return ResNet(widths=[8, 16], blocks=[1, 1], norm=norm)


def small_teacher() -> nn.Module:
    """A network that says of itself that it was trained."""
    teacher = ResNet(widths=[12, 20], blocks=[1, 1])
    teacher.pretrained = True
    return teacher


def small_lab_pair(norm: str) -> nn.Module:
    return LabPair(widths=[8, 16], blocks=[1, 1], norm=norm)


def small_residual_encoder(norm: str) -> nn.Module:
    return ResidualEncoder(16, widths=(8, 16), code=24, norm=norm)


def small_vit(norm: str) -> nn.Module:
    return ViT(16, patch_size=4, width=24, depth=2, heads=2, pool="mean")


def small_vae(norm: str) -> nn.Module:
    return VAEConv(16, width=8, stages=2, residual=True, latent=8, norm=norm)


def small_lstm(norm: str) -> nn.Module:
    return CharLSTM(16)


class Flat(nn.Module):
    """An encoder that has collapsed: every image looks alike."""

    dim, pooled = 8, False

    def __init__(self):
        super().__init__()
        self.point = nn.Parameter(torch.ones(8))

    def forward(self, view):
        return self.point.expand(len(view), -1)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class Case(NamedTuple):
    """A method and its arguments for small tests, on 16x16 images of 3 channels and 4 classes, or on tweets of 2.

    Args:
        encoder: builds one; `norm` is "batch", or "group" where images must not influence each other.
        reads_labels: of the few whose loss may.
        mean, std: what pixels in [0, 1] are normalized with.
        text: whether it reads tweets.
        sizes: sides of the views of a training batch.
        features: whether a training step computes features.
        teacher: builds a trained network, of methods that are given one.
    """

    method: type[SSLModule]
    arguments: dict[str, Any]
    encoder: Callable[[str], nn.Module] = small_resnet
    reads_labels: bool = False
    mean: float = 0.5
    std: float = 0.25
    text: bool = False
    sizes: tuple[int, ...] = (16,)
    features: bool = True
    teacher: Callable[[], nn.Module] | None = None


PAIR = (16, 16)
TOKENS = {"hidden_dim": 16, "prototypes": 12, "momentum": 0.9, "frozen_epochs": 0}
METHODS = [  # one line a method: it has to keep every promise of test_methods.py
    Case(SimCLR, {"hidden_dim": 16, "out_dim": 8}, sizes=PAIR),
    Case(Autoencoder, {}, lambda norm: ConvEncoder(16, widths=(8, 16)), mean=0, std=1),
    Case(Autoencoder, {"output": "tanh"}, small_residual_encoder, std=0.5),
    Case(BarlowTwins, {"hidden_dim": 16, "out_dim": 8}, sizes=PAIR),
    Case(SimCLR, {"hidden_dim": 16, "out_dim": 8, "decoupled": True, "sigma": 0.5}, sizes=PAIR),
    Case(SupCon, {"hidden_dim": 16, "out_dim": 8}, reads_labels=True, sizes=(16, 16, 16)),
    Case(
        NNCLR,
        {"hidden_dim": 16, "predictor_dim": 16, "out_dim": 8, "queue_size": 56, "temperature": 1.0},
        sizes=PAIR,
    ),
    Case(
        MoCo,
        {"hidden_dim": 16, "out_dim": 8, "queue_size": 56, "momentum": 0.9, "norm_groups": 4},
        sizes=PAIR,
    ),
    Case(
        MoCo,
        {
            "hidden_dim": 16,
            "out_dim": 8,
            "queue_size": 112,
            "momentum": 0.9,
            "symmetric": True,
            "norm_groups": 4,
        },
        sizes=PAIR,
    ),
    Case(MoCoV3, {"hidden_dim": 16, "out_dim": 8, "momentum": 0.9}, sizes=PAIR),
    Case(VICReg, {"hidden_dim": 16, "out_dim": 8}, sizes=PAIR),
    Case(SimSiam, {"hidden_dim": 16, "predictor_dim": 8}, sizes=PAIR),
    Case(SimSiam, {"hidden_dim": 16, "predictor_dim": 8, "layers": 2}, sizes=(16, 16, 16)),
    Case(BYOL, {"hidden_dim": 16, "out_dim": 8, "momentum": 0.9}, sizes=PAIR),
    Case(
        SwAV,
        {"hidden_dim": 16, "out_dim": 8, "prototypes": 12, "frozen_epochs": 0},
        sizes=(*PAIR, 8, 8),
    ),
    Case(
        SwAV,
        {
            "hidden_dim": 16,
            "out_dim": 8,
            "prototypes": 12,
            "frozen_epochs": 0,
            "queue_size": 56,
            "queue_epochs": 1,
        },
        sizes=PAIR,
    ),
    Case(
        DINO,
        {"hidden_dim": 16, "prototypes": 12, "momentum": 0.9, "frozen_epochs": 0},
        sizes=(*PAIR, 8, 8, 8),
    ),
    Case(Distillation, {}, sizes=(*PAIR, 8), teacher=small_teacher),
    Case(LeJEPA, {"hidden_dim": 16, "out_dim": 8, "directions": 32}, sizes=(*PAIR, 8, 8, 8)),
    Case(MAE, {"decoder_width": 24, "decoder_depth": 1}, small_vit, features=False),
    Case(
        IJEPA,
        {"predictor_width": 24, "predictor_depth": 1, "momentum": 0.9, "min_context": 4},
        small_vit,
    ),
    Case(IBOT, TOKENS, small_vit, sizes=(*PAIR, 8, 8, 8)),
    Case(DINOv2, TOKENS, small_vit, sizes=(*PAIR, 8, 8, 8)),
    Case(RotNet, {}),
    Case(Classifier, {"num_outputs": 4}, reads_labels=True),
    Case(CMC, {"out_dim": 8, "temperature": 0.2}, small_lab_pair, mean=0, std=1),
    Case(CMC, {"out_dim": 8, "temperature": 0.2, "negatives": 16}, small_lab_pair, mean=0, std=1),
    Case(VAE, {}, lambda norm: VAEMLP(16, hidden=32, latent=8), mean=0, std=1),
    Case(VAE, {"likelihood": "gaussian", "free_bits": 0.1}, small_vae, mean=0, std=1),
    Case(VAE, {"conditional": True, "num_classes": 4}, small_vae, reads_labels=True, mean=0, std=1),
    Case(NextCharacter, {}, small_lstm, text=True),
    Case(Classifier, {"num_outputs": 2}, small_lstm, reads_labels=True, text=True),
]


def build(case: Case, norm: str = "batch", **shared: Any) -> SSLModule:
    """The method on a tiny encoder, always with the same weights."""
    torch.manual_seed(0)
    arguments = {"optimizer": torch.optim.AdamW} | case.arguments | shared
    arguments |= {"teacher": case.teacher()} if case.teacher else {}
    return case.method(encoder=case.encoder(norm), **arguments)


def train(
    method: SSLModule,
    data: LightningDataModule,
    folder: Path,
    resume_from: Path | None = None,
    **options: Any,
) -> Trainer:
    """A short, quiet fit from seed 0, or from a checkpoint, with what launch puts in."""
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
    options["callbacks"] = [Preflight(), EpochMeans(), *options.get("callbacks", [])]
    trainer = Trainer(**(quiet | {"max_epochs": 1} | options))
    trainer.fit(method, data, ckpt_path=resume_from, weights_only=True)
    return trainer
