"""Watching must not change what is watched, and stopping must not change what is trained."""

import csv

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything

from callbacks.checkpointing.checkpoints import Checkpoints
from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.protocol import Protocol
from callbacks.evaluation.throughput import Throughput
from callbacks.figures.attention import Attention
from callbacks.figures.cam import CAM
from callbacks.figures.cka import CKA
from callbacks.figures.clustering import Clustering
from callbacks.figures.confusion import Confusion
from callbacks.figures.curves import Curves
from callbacks.figures.feature_map import FeatureMap
from callbacks.figures.filters import Filters
from callbacks.figures.hardest import Hardest
from callbacks.figures.latents import Latents
from callbacks.figures.patch_map import PatchMap
from callbacks.figures.reconstructions import Reconstructions
from callbacks.figures.retrieval import Retrieval
from callbacks.figures.samples import Samples
from callbacks.figures.views import Views
from callbacks.loggers.csv import CSVLogger
from datamodules.augmentation.augment import Recipe
from datamodules.digits import Digits
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.vit import ViT
from ssl_modules.simclr import SimCLR
from tests.figure_runs import find_case, fit_case

RECIPE = Recipe(scale=(0.4, 1.0), ratio=(0.75, 1.33), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4)


class DropoutResNet(ResNet):
    """Drops half of its features in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().forward(x), 0.5, self.training)


def build_monitors() -> list:
    """What every run logs and keeps."""
    callbacks = [Features(), Throughput(), OnlineProbe(), KNN(every_n_epochs=1), Collapse(), Views()]
    return [*callbacks, Checkpoints(3)]


def build_all_callbacks() -> list:
    """The monitors, the protocol, and what draws."""
    return [
        *build_monitors(),
        Protocol(),
        CKA(every_n_epochs=1),
        Curves(),
        CAM(per_class=1, mistakes=1),
        Attention(),
        PatchMap(images=3),
        Confusion(),
        Filters(),
        Hardest(count=1, training=True),
        FeatureMap(points=60, every_n_epochs=1),
        Retrieval(queries=1),
        Clustering(points=60),
    ]


def train_simclr(tmp_path, callbacks, epochs=2, workers=0, ckpt_path=None, encoder=ResNet, **trainer):
    seed_everything(0, verbose=False)
    module = SimCLR(
        encoder=encoder(widths=[8, 16], blocks=[1, 1], in_channels=1),
        hidden_dim=16,
        out_dim=8,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        warmup_epochs=1,
    )
    data = Digits(views=[RECIPE, RECIPE], batch_size=256, num_workers=workers)
    options = {"max_epochs": epochs, "callbacks": callbacks, "default_root_dir": tmp_path} | trainer
    options |= {"logger": CSVLogger(str(tmp_path)), "enable_checkpointing": bool(callbacks)}
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "use_distributed_sampler"), False)
    options |= {"accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 1} | quiet
    Trainer(**options).fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module


def assert_same_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def read_untimed_metrics(folder) -> list[dict]:
    """metrics.csv without what depends on the clock and without empty cells."""
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    timed = ("train/examples_per_s", "train/data_wait")
    return [{k: v for k, v in row.items() if v and k not in timed} for row in rows]


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)])
def test_training_with_every_callback_is_training_without(tmp_path, precision):
    plain = train_simclr(tmp_path / "plain", [], precision=precision)
    watched = train_simclr(tmp_path / "watched", build_all_callbacks(), precision=precision)
    assert_same_weights(plain, watched)


TURNING = find_case("Autoencoder", 1)
TURNING = TURNING._replace(arguments=TURNING.arguments | {"beta": 10.0})
EVERY = {"every_n_epochs": 1}
MAE = find_case("MAE")
TOKEN = MAE._replace(encoder=lambda norm: ViT(16, width=24, depth=2, heads=2))
FIGURES = {  # name: (builds the callbacks, methods that are trained with and without them)
    "CAM": (lambda: [CAM([0], per_class=1, mistakes=1, **EVERY)], ["SimCLR", "Autoencoder", "Classifier"]),
    "CAM of a class token": (lambda: [CAM([0], per_class=1, mistakes=1, **EVERY)], [TOKEN]),
    "Attention": (lambda: [Attention(**EVERY)], [MAE, TOKEN]),
    "PatchMap": (lambda: [PatchMap(**EVERY)], [MAE, "SimCLR", "Autoencoder"]),
    "CKA": (lambda: [CKA(**EVERY)], ["SimCLR", "Classifier", "VAE"]),
    "Clustering": (lambda: [Clustering(**EVERY)], ["SimCLR", "VAE"]),
    "Confusion": (lambda: [Confusion(**EVERY)], ["SimCLR", "VAE", "Classifier"]),
    "Curves": (lambda: [Curves()], ["SimCLR"]),
    "FeatureMap": (lambda: [FeatureMap(**EVERY)], ["SimCLR", "VAE"]),
    "Filters": (lambda: [Filters(each=True, **EVERY)], ["SimCLR", "VAE", "Classifier"]),
    "Hardest": (
        lambda: [Hardest(count=1, training=True, **EVERY)],
        ["SimCLR", "VAE", "Classifier", "RotNet"],
    ),
    "Reconstructions": (lambda: [Reconstructions(**EVERY)], [TURNING, MAE]),
    "Retrieval": (lambda: [Retrieval(**EVERY)], ["SimCLR", "VAE"]),
    "Samples": (
        lambda: [Samples(compared=20, **EVERY), Latents(components=3, **EVERY)],
        [find_case("VAE", 2)],
    ),
}


@pytest.mark.parametrize(
    "figure, method", [(name, m) for name, (_, methods) in FIGURES.items() for m in methods]
)
def test_a_figure_changes_not_one_bit_of_training(figure, method, data_dir, tmp_path):
    case = find_case(method) if isinstance(method, str) else method
    plain = fit_case(case, data_dir, tmp_path / "plain", max_epochs=2)
    watched = fit_case(case, data_dir, tmp_path / "watched", *FIGURES[figure][0](), max_epochs=2)
    assert_same_weights(plain.lightning_module, watched.lightning_module)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """The runs without workers that were never stopped: encoder -> module, folder."""
    runs = {}
    for encoder in (ResNet, DropoutResNet):
        folder = tmp_path_factory.mktemp("whole")
        runs[encoder] = train_simclr(folder, build_monitors(), encoder=encoder), folder
    return runs


@pytest.mark.parametrize("workers, encoder", [(0, ResNet), (2, ResNet), (0, DropoutResNet)])
def test_resuming_in_mid_epoch_is_never_having_stopped(never_stopped, tmp_path, workers, encoder):
    uninterrupted, folder = never_stopped[encoder]
    train_simclr(tmp_path / "parts", build_monitors(), workers=workers, encoder=encoder, max_steps=4)
    # without the last one it goes on from step 3, in the middle of epoch 0
    (tmp_path / "parts/checkpoints/last.ckpt").unlink()
    resumed = train_simclr(
        tmp_path / "parts",
        build_monitors(),
        workers=workers,
        encoder=encoder,
        ckpt_path=tmp_path / "parts/checkpoints/previous.ckpt",
    )
    assert_same_weights(uninterrupted, resumed)
    assert read_untimed_metrics(tmp_path / "parts") == read_untimed_metrics(folder)
