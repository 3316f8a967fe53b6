"""Curves of loss, accuracy and learning rate over a whole run, as a picture for paper."""

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from callbacks.evaluation.epoch_means import EpochMeans
from callbacks.loggers.csv import CSVLogger
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import ACCENT, FAINT, INK, PALETTE, write_title
from common.metrics import read_name

COLORS = {"train": PALETTE[0], "val": PALETTE[6], "test": PALETTE[4]}
DASHES = {"head": "-", "online_probe": (0, (4, 1.5)), "bank_probe": (0, (4, 1.5))}  # kNN and others: dotted
LEARNING_RATES = ("learning_rate", "group_learning_rate")
Series = dict[str, np.ndarray]  # metric -> (n, 3): epoch, step, value


def find_best_row(rows: np.ndarray, mode: str) -> np.ndarray:
    """Find the row (epoch, step, value) of the least or greatest finite value; the first of equals."""
    finite = rows[np.isfinite(rows[:, 2])]
    return finite[finite[:, 2].argmin() if mode == "min" else finite[:, 2].argmax()]


def group_metrics(series: Series, measured: list[str]) -> dict[str, list[str]]:
    """Group what is drawn together: title -> metrics of train, validation and test that were logged more than once.

    Args:
        measured: what the method reports besides its loss.
    """
    several = [name for name, rows in series.items() if len(rows) > 1]
    metrics = {name: read_name(name) for name in several}
    accuracies = [name for name, m in metrics.items() if m.is_top1 and m.split in COLORS and not m.floor]
    groups = {"loss": [f"{split}/loss" for split in COLORS]}
    groups["accuracy, %"] = sorted(accuracies, key=lambda name: name.split("/")[::-1])
    groups |= {
        name.replace("_", " "): [f"{split}/{name}" for split in COLORS]
        for name in measured
        if not read_name(name).is_top1
    }
    groups["gradient norm"] = ["train/gradient_norm"]
    groups["weight decay"] = ["weight_decay"]
    groups["learning rate"] = [name for name, m in metrics.items() if m.kind in LEARNING_RATES]
    panels = {text: [name for name in names if name in several] for text, names in groups.items()}
    return {text: names for text, names in panels.items() if names}


class Curves(Callback):
    """Draws loss, accuracy, the method's other measures and the learning rate when fit ends, by epoch and iteration.

    The splits are training, validation and, where it is measured, test; the best iteration by the method's `monitor` is
    marked. The numbers are read from the run folder's metrics.csv, so a resumed run shows all of its
    history. Cost: a second, once.
    """

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        logger = CSVLogger.find_in(trainer)
        series = logger.read_series() if logger else {}
        measured = {
            name for means in trainer.callbacks if isinstance(means, EpochMeans) for name in means.names
        }
        panels = group_metrics(series, sorted(measured - {"loss"}))
        if not panels:
            rank_zero_info("Curves: no picture, since CSVLogger has no metric with two values")
            return
        length = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        facts: dict = {"iterations_per_epoch": length}
        name, mode = module.monitor
        if name in series and np.isfinite(series[name][:, 2]).any():
            _, step, value = find_best_row(series[name], mode)
            facts["best"] = {
                "metric": name,
                "value": value,
                "epoch": (step + 1) / length,
                "iteration": int(step) + 1,
            }
        figure = draw_curves(series, panels, length, facts.get("best"))
        arrays = {name: series[name] for names in panels.values() for name in names}
        save_figure(trainer, "curves", figure, facts, **arrays)


def draw_curves(series: Series, panels: dict[str, list[str]], length: int, best: dict | None) -> Figure:
    """Draw a panel for each title, epochs below, iterations above. `length`: iterations an epoch has."""
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(7, 1.9 * len(panels) + 1.2), sharex=True, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.55 / figure.get_figheight()))
    for axis, (text, names) in zip(axes[:, 0], panels.items(), strict=True):
        if text == "loss" and "train/loss_step" in series:
            _, step, value = series["train/loss_step"].T
            axis.plot((step + 1) / length, value, color=PALETTE[9], linewidth=0.7, zorder=1)
        for name in names:
            plot_metric(axis, name, series[name], length, 100 if text.startswith("accuracy") else 1)
        if text != "learning rate" and not text.startswith("accuracy"):
            zoom_axis(axis, np.concatenate([series[name] for name in names]))
        axis.set_ylabel(text, fontsize=9)
        if best:
            axis.axvline(best["epoch"], color=ACCENT, linewidth=1, linestyle=":")
        if any(read_name(name).split for name in names):
            axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    axes[-1, 0].set_xlabel("epochs", fontsize=9)
    axes[-1, 0].set_xlim(left=0)
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # no 2.5 epochs
    above = axes[0, 0].secondary_xaxis("top", functions=(lambda x: x * length, lambda x: x / length))
    above.set_xlabel("iterations", fontsize=9, color=FAINT)
    above.tick_params(labelsize=8, colors=FAINT)
    under = "means over an epoch"
    if "train/gradient_norm" in series:
        under += "; the gradient's norm is of single steps"
    if "train/loss_step" in series:
        under += "; light: single batches"
    if best:
        under = (
            f"dotted: best {best['metric']}, {best['value']:.4g}, after {best['epoch']:.4g} epochs "
            f"(iteration {best['iteration']:,}); {under}"
        )
    write_title(figure, "Training curves", under)
    return figure


def zoom_axis(axis: Axes, rows: np.ndarray) -> None:
    """Give the panel to what follows the first tenth of training, where the fall would take most of it, and say so.

    Args:
        rows: (n, 3) of all its lines, as of Series.
    """
    _, step, value = rows[np.isfinite(rows[:, 2])].T
    late = value[step >= 0.1 * step.max(initial=0)]
    low, high = late.min(initial=np.inf), late.max(initial=-np.inf)
    if low < high and value.max() - high > 2 * (high - low):
        axis.set_ylim(low - 0.08 * (high - low), high + 0.25 * (high - low))
        note = f"falls from {value.max():,.4g}"
        axis.text(0.97, 0.96, note, transform=axis.transAxes, ha="right", va="top", fontsize=8, color=FAINT)


def plot_metric(axis: Axes, name: str, rows: np.ndarray, length: int, factor: float) -> None:
    """Plot a metric in the style of its split and kind. `rows`: (n, 3), as of Series."""
    split, _, measure = name.rpartition("/")
    metric = read_name(name)
    axis.plot(
        (rows[:, 1] + 1) / length,
        factor * rows[:, 2],
        color=COLORS.get(split, INK),
        linestyle=DASHES.get(metric.kind, ":") if metric.is_top1 else "-",
        marker="." if len(rows) < 10 else None,
        linewidth=3 if split == "test" else 1.4,  # wide and pale, below the others: it may run along them
        alpha=0.35 if split == "test" else 1,
        zorder=1.5 if split == "test" else 2,
        label=f"{split} {metric.head}".strip() or measure,
    )
