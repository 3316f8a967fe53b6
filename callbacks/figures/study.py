"""Two metrics of one run, checkpoint by checkpoint, in one picture."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torchmetrics.functional.regression import spearman_corrcoef

from callbacks.loggers.csv import CSVLogger
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import PALETTE, write_title
from common.splits import SPLITS


class Study(Callback):
    """Draws two metrics against epochs, each with an axis of its own, when all checkpoints of a folder are validated:
    `python cli.py validate --config RUN/config.yaml --ckpt_path RUN/checkpoints`.

    The metrics are what other callbacks log for each checkpoint; all of them are in metrics.csv. Callbacks that measure
    one of the two draw each checkpoint; the others keep to their `every_n_epochs`. Cost: a second.

    Args:
        left, right: names of the metrics.
    """

    def __init__(self, left: str = "train/reconstruction_mse", right: str = "val/probe_top1"):
        self.left, self.right = self.follows = left, right

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn != "validate" or not trainer.is_global_zero or not trainer.ckpt_path:
            return
        several = getattr(trainer, "checkpoints", [])
        if not several or Path(trainer.ckpt_path) != several[-1]:
            return
        logger = CSVLogger.find_in(trainer)
        series = logger.read_series() if logger else {}
        if missing := [name for name in (self.left, self.right) if name not in series]:
            logged = ", ".join(sorted(series))
            rank_zero_warn(
                f"Study: no picture, since there is no {' and no '.join(missing)}; logged were {logged}"
            )
            return
        left, right = (
            {int(epoch): value for epoch, _, value in series[name]} for name in (self.left, self.right)
        )
        epochs = np.array(sorted(left.keys() & right.keys()))
        values = [np.array([column[epoch] for epoch in epochs]) for column in (left, right)]
        figure, rank = draw_study(epochs, *values, (self.left, self.right))
        facts = {"left": self.left, "right": self.right, "rank_correlation": rank}
        save_figure(trainer, "study", figure, facts, epochs=epochs, left=values[0], right=values[1])


def describe_metric(name: str) -> tuple[str, int]:
    """Describe a metric for a picture, with its factor: 'val/probe_top1' -> 'probe accuracy, validation, %', 100."""
    split, _, measure = name.rpartition("/")
    text = measure.replace("top1", "accuracy").replace("mse", "error (mse)").replace("_", " ")
    words = [text, (SPLITS | {"train": "training"}).get(split, split)]
    if text.endswith("accuracy"):
        return ", ".join(filter(None, [*words, "%"])), 100
    return ", ".join(filter(None, words)), 1


def draw_study(
    epochs: np.ndarray, left: np.ndarray, right: np.ndarray, names: tuple[str, str]
) -> tuple[Figure, float]:
    """Draw the values (n,) of both metrics after so many epochs (n,); also returns their rank correlation, -1 to 1."""
    rank = float("nan")
    if len(epochs) > 2:
        rank = float(spearman_corrcoef(torch.tensor(left), torch.tensor(right)))
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.6 / 4))
    sides = zip((axis, axis.twinx()), (left, right), names, (PALETTE[0], PALETTE[6]), "os", strict=True)
    for side, values, name, color, marker in sides:
        text, factor = describe_metric(name)
        side.plot(epochs, factor * values, color=color, marker=marker, markersize=4, linewidth=1.4)
        side.set_ylabel(text, color=color, fontsize=9)
        side.tick_params(labelsize=8)
        side.spines["top"].set_visible(False)
    axis.set_xlabel("epochs of training", fontsize=9)
    correlation = "" if np.isnan(rank) else f"; rank correlation of the two {rank:+.2f}"
    text = ", against ".join(describe_metric(name)[0].removesuffix(", %") for name in names)
    write_title(figure, text[0].upper() + text[1:], f"{len(epochs)} checkpoints of one run{correlation}")
    return figure, rank
