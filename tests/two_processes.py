"""A short training whose every number is noted. As a program, under torchrun, it does all of them on two processes:
`torchrun --nproc-per-node 2 -m tests.two_processes FOLDER`. Each process writes `rank_N.pt`.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger
from torch import nn

from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.optimizer_monitor import OptimizerMonitor
from callbacks.evaluation.protocol import Protocol
from callbacks.figures.attention import Attention
from callbacks.figures.cam import CAM
from callbacks.figures.cka import CKA
from callbacks.figures.confusion import Confusion
from callbacks.figures.feature_map import FeatureMap
from callbacks.figures.hardest import Hardest
from callbacks.figures.latents import Latents
from callbacks.figures.patch_map import PatchMap
from callbacks.figures.reconstructions import Reconstructions
from callbacks.figures.retrieval import Retrieval
from callbacks.figures.samples import Samples
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.storage.layout import write_arrays
from datamodules.tweets import Tweets
from ssl_modules.autoencoder import Autoencoder
from ssl_modules.barlow_twins import BarlowTwins
from ssl_modules.classifier import Classifier
from ssl_modules.mae import MAE
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.simclr import SimCLR
from ssl_modules.vae import VAE
from ssl_modules.vicreg import VICReg
from tests.conftest import CLASSES, random_split
from tests.methods import METHODS, Case, build, train
from tests.tweets import write_tweets

RECIPE = Recipe(scale=(0.5, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, hue=0.1, blur=0.5)
TURNS = Case(Autoencoder, {"beta": 1.0}, lambda norm: ConvEncoder(16, widths=(8, 16)), mean=0, std=1)
CASES = [*METHODS, TURNS]  # by their place in it
SIMCLR, MAES, VAES, CLASSIFIER = (
    [case.method for case in CASES].index(method) for method in (SimCLR, MAE, VAE, Classifier)
)
BATCH, STEPS = 28, 6  # two epochs
# where the loss is a sum or large; SimCLR goes further from rounding at each step
RATES = {VAE: 1e-5, BarlowTwins: 1e-3, VICReg: 1e-3, SimCLR: 0.02}
PICTURES = (FeatureMap, Retrieval, CAM, Hardest, Confusion, CKA, Reconstructions, Samples, Latents)
TOKENS = (Attention, PatchMap)  # of transformers


def protocol() -> Protocol:
    return Protocol(draws=1)


class Run(NamedTuple):
    """What to train: a row of CASES, with callbacks besides the monitors, and with options of the Trainer."""

    case: int
    callbacks: tuple[Callable[[], Callback], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


TWICE, HALF = (("accumulate_grad_batches", 2),), (("precision", "bf16-mixed"),)
RUNS = {
    **{f"{row} {case.method.__name__}": Run(row) for row, case in enumerate(CASES)},
    "protocol": Run(SIMCLR, (protocol,)),
    "pictures": Run(VAES + 1, PICTURES),
    "pictures of tokens": Run(MAES, TOKENS),
    "accumulation": Run(SIMCLR, (), TWICE),
    "accumulation by labels": Run(CLASSIFIER, (), TWICE),
    "bf16": Run(SIMCLR, (), HALF),
    "bf16 by labels": Run(CLASSIFIER, (), HALF),
}


def write_data(folder: Path) -> None:
    """`odd`, of which no split can be halved, and `tweets`."""
    arrays = {}
    for seed, (split, count) in enumerate({"train": 101, "val": 13, "test": 31}.items()):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = random_split(count, seed=seed)
    write_arrays(folder / "odd", arrays, CLASSES)
    write_tweets(folder / "tweets", train=115, test=31)


def data_of(case: Case, folder: Path, batch_size: int) -> LightningDataModule:
    if case.text:
        return Tweets(data_dir=folder, batch_size=batch_size, val_size=7)
    views = [replace(RECIPE, size=size) for size in case.sizes]
    scale = {"mean": [case.mean], "std": [case.std]}
    return Arrays("odd", data_dir=folder, views=views, batch_size=batch_size, **scale)


def without_batch_norm(module: nn.Module) -> nn.Module:
    """Layer norms in their place: those across processes do not exist on CPUs. A teacher's are not trained either."""
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm1d):
            trained = all(p.requires_grad for p in part.parameters())
            norm = nn.LayerNorm(part.num_features, elementwise_affine=part.affine)
            setattr(module, name, norm.requires_grad_(trained))
        else:
            without_batch_norm(part)
    return module


class Notes(Callback):
    """The loss of each step, the mean over processes, and the gradients that the optimizer gets."""

    def __init__(self):
        self.losses, self.gradients = [], []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.gradients.append(
            {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean"))


class Book(Logger):
    """All that is logged, in memory."""

    name = version = "book"

    def __init__(self):
        super().__init__()
        self.values = defaultdict(list)

    def log_hyperparams(self, params: Any) -> None:
        """Not of interest."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.values[name].append(float(value))


def read_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> buffer of what steps move in the same way on all processes: not the statistics of batch norms."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    statistics = {id(buffer) for norm in norms for buffer in norm.buffers()}
    return {
        name: buffer.clone()
        for name, buffer in module.named_buffers()
        if buffer.is_floating_point() and id(buffer) not in statistics
    }


def observe(run: Run, data_dir: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Train for so many optimizer steps, test, and return what was noted. Pictures go to `folder`."""
    case, notes, book = CASES[run.case], Notes(), Book()
    rate = RATES.get(case.method, 0.05)
    method = build(case, "group", optimizer=lambda groups: torch.optim.SGD(groups, lr=rate, momentum=0.9))
    data = data_of(case, data_dir, BATCH // processes)
    callbacks = [
        Features(),
        OnlineProbe(),
        KNN(every_n_epochs=1),
        Collapse(),
        OptimizerMonitor(),
        *(callback() for callback in run.callbacks),
        notes,
    ]
    options = {"max_steps": STEPS, "max_epochs": -1, "log_every_n_steps": 1, "logger": [book]}
    options |= {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    trainer: Trainer = train(
        without_batch_norm(method), data, folder, callbacks=callbacks, **options, **dict(run.options)
    )
    trainer.test(method, data, verbose=False)
    assert len(notes.gradients) == STEPS
    return {
        "losses": torch.stack(notes.losses),
        "gradients": notes.gradients[0],
        "weights": {name: p.detach() for name, p in method.named_parameters()},
        "buffers": read_buffers(method),
        "numbers": dict(book.values),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, rank = Path(sys.argv[1]), os.environ["RANK"]
    results = {name: observe(run, place, place / f"rank_{rank}", processes=2) for name, run in RUNS.items()}
    torch.save(results, place / f"rank_{rank}.pt")
