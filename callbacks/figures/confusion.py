"""The confusion matrix: which classes are taken for which."""

from itertools import zip_longest

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import make_thumbnails
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import ACCENT, INK, WRONG, place_axes, truncate_text, write_title
from common.splits import SPLITS

STRONGER = 3.4  # how much errors are exaggerated, so that rare ones show
PAPER = "#f4f4f0"
MOST = 40  # classes that a picture has room for


class Confusion(FigureCallback):
    """Draws the confusion matrix of the method's own classifier, or of a probe on its features.

    Beside `figures/confusion/epoch=N.png`, a `.json` has `counts` (K, K), true classes in rows and predicted ones in
    columns, `classes`, and `examples` (K, K), of each cell the positions in the split of its surest ten; an `.npz` has
    small `images`, or `texts`, of up to 600 of those, and their positions, `index`.

    Cost: 1 s of drawing; without an online probe or classifier also a pass over the bank and a probe on it, 25 s for
    CIFAR-10 and a small ResNet on one core, once for all callbacks that ask.
    """

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        scored = self.score_labeled(trainer, module, split)
        if scored is None or not trainer.is_global_zero:
            return
        names, k = trainer.datamodule.class_names, trainer.datamodule.num_classes
        labels, index = scored.examples.labels, scored.examples.index
        confidence, predicted = scored.compute_probabilities().max(1)
        counts = multiclass_confusion_matrix(predicted, labels, k, validate_args=False)
        cells = select_surest_per_cell(labels * k + predicted, confidence, k**2)
        surest = [index[rows].tolist() for rows in cells]
        facts = {"split": split, "head": scored.head_name, "classes": names, "counts": counts.tolist()}
        facts["examples"] = [surest[start : start + k] for start in range(0, k**2, k)]
        figure = draw_confusion(counts.cpu().numpy(), names, split, scored.head_name)
        positions = interleave_cells(surest)
        arrays = {"index": positions, **make_thumbnails(trainer, split, positions)}
        save_figure(trainer, "confusion", figure, facts, **arrays)


def select_surest_per_cell(cells: Tensor, confidence: Tensor, count: int, most: int = 10) -> list[Tensor]:
    """Select the surest examples of each of `count` cells.

    Args:
        cells: the cell of each example (N,).
        confidence: of each prediction (N,).
        most: examples of a cell, at most.

    Returns:
        Positions of the examples for each cell, the surest first.
    """
    order = confidence.argsort(descending=True, stable=True)
    order = order[cells[order].argsort(stable=True)]  # cell after cell
    return [rows[:most] for rows in order.split(cells.bincount(minlength=count).tolist())]


def interleave_cells(cells: list[list[int]], most: int = 600) -> np.ndarray:
    """Order positions in the split: the first of each cell, then the second of each, up to `most`."""
    positions = [position for rank in zip_longest(*cells) for position in rank if position is not None]
    return np.array(positions[:most])


def row_percentages(counts: np.ndarray) -> np.ndarray:
    """Turn counts (K, K) into per cent of each row; 0 where a class has no examples."""
    return 100 * counts / counts.sum(1, keepdims=True).clip(min=1)


def tint_strengths(percent: np.ndarray) -> np.ndarray:
    """Turn per cent of each row (K, K) into how strongly a cell is tinted, 0 to 1: errors more than the diagonal, and
    cells below 1 % not at all."""
    factor = np.where(np.eye(len(percent), dtype=bool), 1, STRONGER)
    return np.where(percent < 1, 0, np.minimum(factor * percent / 100, 1))


def describe_worst_error(counts: np.ndarray, names: list[str]) -> str:
    """Describe the most frequent mistake, by share of its class."""
    errors = row_percentages(counts)
    np.fill_diagonal(errors, 0)
    if not errors.any():
        return "No mistakes."
    true, predicted = np.unravel_index(errors.argmax(), errors.shape)
    share = errors[true, predicted]
    return f"Most often it takes {names[true]} for {names[predicted]}: {share:.0f} % of them."


def draw_confusion(counts: np.ndarray, names: list[str], split: str, head: str) -> Figure:
    """Draw a cell for each pair of classes, true ones in rows; of more than 40 classes those with most examples."""
    right = 100 * np.trace(counts) / counts.sum()
    text = f"{describe_worst_error(counts, names)} {counts.sum():,} {SPLITS[split]} examples, {right:.1f} % right.\n"
    text += "Rows: what it is; columns: what it is taken for; per cent of the row, blank below 1 %.\n"
    text += f"Green is right. Red is wrong, {STRONGER} times as strong, so that rare mistakes show."
    percent = row_percentages(counts)
    if len(names) > MOST:
        frequent = np.sort(counts.sum(1).argsort(kind="stable")[::-1][:MOST])
        percent, names = percent[np.ix_(frequent, frequent)], [names[k] for k in frequent]
        text += f" The {MOST} classes with most examples."
    names = [truncate_text(name, 28) for name in names]
    cell = float(np.clip(4.2 / len(names), 0.26, 0.9))  # inches
    longest = 0.07 * max(len(name) for name in names)
    side, left, top = cell * len(names), longest + 0.15, 0.7 * longest + 0.95
    figure = plt.figure(figsize=(max(4.5, left + side + 0.7 * longest), top + side))
    axis = place_axes(figure, left, top, side, side)
    draw_cells(axis, percent, min(8.0, 26 * cell))
    axis.set_xticks(range(len(names)), names, rotation=45, ha="left", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(labelsize=min(8.0, 28 * cell))
    write_title(figure, f"Confusion matrix of the {head}", text)
    return figure


def draw_cells(axis: plt.Axes, percent: np.ndarray, size: float) -> None:
    """Draw tinted cells with their numbers inside."""
    strength = tint_strengths(percent)[..., None]
    hue = np.where(np.eye(len(percent), dtype=bool)[..., None], colors.to_rgb(ACCENT), colors.to_rgb(WRONG))
    axis.imshow(strength * hue + (1 - strength) * np.array(colors.to_rgb(PAPER)))
    for (row, column), value in np.ndenumerate(percent):
        if value >= 1:
            ink = "white" if strength[row, column, 0] > 0.7 else INK
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=ink)
    axis.set_xticks(np.arange(len(percent) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(percent) + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="both", length=0, labelcolor=INK)
    axis.xaxis.tick_top()
    axis.spines[:].set_visible(False)
