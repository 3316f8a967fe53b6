"""Training images beside augmented views of them."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from matplotlib import pyplot as plt

from callbacks.plotting.save import save_figure
from common.ranges import PositiveInt


class Views(Callback):
    """Draws training images beside augmented views of them, by the run's own recipes, when training starts.

    Text has no picture: a line says so, and quotes the first one as it is read. Cost: a fraction of a second, once.

    Args:
        images: rows of the picture.
        draws: augmented views of each, or as many as a training batch has, if those are more.
    """

    def __init__(self, images: PositiveInt = 8, draws: PositiveInt = 6):
        self.images, self.draws = images, draws

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.global_step or not trainer.is_global_zero:
            return
        data = trainer.datamodule
        positions = np.arange(min(self.images, len(data.rows_of("bank"))))
        original = data.display(data.read_batch("bank", positions, torch.device("cpu")).views[0])
        if isinstance(original, list):
            rank_zero_info(f"Views: text has no picture; the first example is read as {original[0]!r}")
            return
        original, views = original.numpy(), []
        count = max(self.draws, len(data.recipes))  # at least one of each kind
        for key in range(-(-count // len(data.recipes))):
            batch = data.read_batch("bank", positions, torch.device("cpu"), augment=True, key=key)
            views += [data.display(view).numpy() for view in batch.views]
        views = views[:count]  # (n, S, S, C) each
        arrays = {"original": original}
        for side in sorted({view.shape[1] for view in views}, reverse=True):
            name = "views" if side == views[0].shape[1] else f"views_{side}"
            arrays[name] = np.stack([view for view in views if view.shape[1] == side], 1)  # (n, v, S, S, C)
        save_figure(trainer, "views", draw_views(original, views), **arrays)


def draw_views(original: np.ndarray, views: list[np.ndarray]) -> plt.Figure:
    """Draw a row for each image, the original (n, H, W, C) first, then views (n, S, S, C); all are uint8.

    Views of several sizes are drawn to one scale.
    """
    rows, sides = len(original), [view.shape[1] for view in views]
    largest = max(sides)
    widths = [largest, *sides]
    figure, axes = plt.subplots(
        rows,
        len(widths),
        figsize=(sum(widths) / largest, rows + 0.4),
        squeeze=False,
        gridspec_kw={"width_ratios": widths},
    )
    for row, axis_row in enumerate(axes):
        for axis, pictures in zip(axis_row, [original, *views], strict=True):
            axis.imshow(pictures[row].squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_axis_off()
        for axis, side in zip(axis_row[1:], sides, strict=True):  # as high as the largest, to have its scale
            margin = (largest - side) / 2
            axis.set_ylim(largest - margin - 0.5, -0.5 - margin)
    sizes = sorted(set(sides), reverse=True)
    note = f", of {' and '.join(map(str, sizes))} px" if len(sizes) > 1 else ""
    axes[0, 0].set_title("original", fontsize=9)
    axes[0, 1].set_title(f"views as trained on{note}", fontsize=9, loc="left")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure
