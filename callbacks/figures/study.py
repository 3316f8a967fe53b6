"""Two measures of one run, checkpoint by checkpoint: do they go together?"""

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
    """Two metrics against epochs in one picture, each with an axis of its own, when all checkpoints of a folder are
    validated: `python cli.py validate --config RUN/config.yaml --ckpt_path RUN/checkpoints`.

    The metrics are what other callbacks log for each checkpoint; all of them are in metrics.csv. Eyes that measure one
    of the two look at each checkpoint; the others keep to their `every_n_epochs`. Cost: a second.

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
        logger = CSVLogger.of(trainer)
        series = logger.read_series() if logger else {}
        if missing := [name for name in (self.left, self.right) if name not in series]:
            known = ", ".join(sorted(series))
            rank_zero_warn(
                f"Study: no picture, since there is no {' and no '.join(missing)}; logged were {known}"
            )
            return
        left, right = (
            {int(epoch): value for epoch, _, value in series[name]} for name in (self.left, self.right)
        )
        epochs = np.array(sorted(left.keys() & right.keys()))
        values = [np.array([column[epoch] for epoch in epochs]) for column in (left, right)]
        figure, rank = draw(epochs, *values, (self.left, self.right))
        facts = {"left": self.left, "right": self.right, "rank_correlation": rank}
        save_figure(trainer, "study", figure, facts, epochs=epochs, left=values[0], right=values[1])


def in_words(name: str) -> tuple[str, int]:
    """What a picture calls a metric, and its factor: 'val/probe_top1' -> 'probe accuracy, validation, %', 100."""
    split, _, measure = name.rpartition("/")
    text = measure.replace("top1", "accuracy").replace("mse", "error (mse)").replace("_", " ")
    share = text.endswith("accuracy")
    return ", ".join(filter(None, [text, SPLITS.get(split, split), "%" * share])), 100 if share else 1


def draw(
    epochs: np.ndarray, left: np.ndarray, right: np.ndarray, names: tuple[str, str]
) -> tuple[Figure, float]:
    """Values (n,) of both metrics after so many epochs (n,) -> the picture, and their rank correlation, -1 to 1."""
    rank = (
        float(spearman_corrcoef(torch.tensor(left), torch.tensor(right))) if len(epochs) > 2 else float("nan")
    )
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.6 / 4))
    sides = zip((axis, axis.twinx()), (left, right), names, (PALETTE[0], PALETTE[6]), "os", strict=True)
    for side, values, name, color, marker in sides:
        text, factor = in_words(name)
        side.plot(epochs, factor * values, color=color, marker=marker, markersize=4, linewidth=1.4)
        side.set_ylabel(text, color=color, fontsize=9)
        side.tick_params(labelsize=8)
        side.spines["top"].set_visible(False)
    axis.set_xlabel("epochs of training", fontsize=9)
    said = "" if rank != rank else f"; rank correlation of the two {rank:+.2f}"
    what = ", against ".join(in_words(name)[0].removesuffix(", %") for name in names)
    write_title(figure, what[0].upper() + what[1:], f"{len(epochs)} checkpoints of one run{said}")
    return figure, rank
