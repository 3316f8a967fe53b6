"""A map of examples by their features, by t-SNE, UMAP or principal components."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.evaluation.class_scores import find_linear_head
from callbacks.evaluation.features import Features
from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import make_thumbnails, pick_evenly
from callbacks.plotting.save import figure_path, read_previous_data, save_figure
from callbacks.plotting.scatter import (
    NAMES,
    How,
    draw_legend,
    project_to_plane,
    scatter_classes,
    scatter_points,
)
from callbacks.plotting.style import FAINT, class_colors, place_axes, write_title
from common.ranges import FloatFromOne, NonNegativeInt, PositiveInt
from common.splits import SPLITS

NEAR = dict.fromkeys(["t-SNE", "UMAP"], "Near points have similar features; axes have no unit. ")


class FeatureMap(FigureCallback):
    """Draws examples as points, near each other where their features are similar: `figures/tsne`.

    A point has the color of its class, or of its first target where labels are numbers. Every epoch shows the same
    examples, and each map moves on from the one before. A VAE's features are its posterior means: `how: pca` and
    `name: latent_map` draw its latent space. Beside the picture: `xy`, `index`, `labels`, `split`, `pred` (the classes
    that `find_linear_head` gives) and, once, `thumbnails.npz`.

    Cost: 6 s on one core for t-SNE of 1,200 points, 25 s for 10,000; without an online probe, also a probe on the bank.

    Args:
        points: examples, as equal a number of each class as there is.
        how: t-SNE, UMAP (needs umap-learn) or the first two principal components; two features are drawn as they are.
        perplexity: of t-SNE, how many neighbors count to a point.
        name: of the folder in figures/; `how` if None.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(
        self,
        points: PositiveInt = 1200,
        how: How = "tsne",
        perplexity: FloatFromOne = 30.0,
        name: str | None = None,
        every_n_epochs: NonNegativeInt = 10,
    ):
        super().__init__(every_n_epochs)
        self.points, self.how, self.perplexity, self.name = points, how, perplexity, name or how

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        data, split_features = trainer.datamodule, Features.find_in(trainer).collect_split(trainer)
        head = find_linear_head(trainer, module) if data.task == "classification" else None
        if not trainer.is_global_zero:
            return
        rows = pick_evenly(split_features.labels, self.points)
        features, labels, index = split_features.select_rows(rows)
        if len(rows) < 4 or not (features != features[0]).any():
            self.skip_figure("a map needs at least four examples, and features that differ")
            return
        pred = {"pred": head[0].score_classes(features).argmax(1).cpu().numpy()} if head else {}
        features, labels, index = (column.cpu().numpy() for column in (features, labels, index))
        folder = figure_path(trainer, self.name).parent
        start = read_previous_map(folder, trainer.current_epoch, index)
        xy = project_to_plane(features, self.how, self.perplexity, start)
        names = data.class_names if labels.ndim == 1 else data.target_names
        figure = draw_feature_map(xy, labels, names or [], name_axes(features, xy, self.how))
        kind = "posterior means" if hasattr(module.encoder, "posterior") else "features"
        method = NAMES[self.how] if features.shape[1] > 2 else "Map"
        text = f"{method} of the {features.shape[1]} {kind} of {len(xy):,} {SPLITS[split]} examples"
        color = "class" if labels.ndim == 1 else "first target"
        write_title(figure, text, f"{NEAR.get(method, '')}The color is the {color}.")
        arrays = {"xy": xy, "index": index, "labels": labels, "split": np.array(split), **pred}
        save_figure(trainer, self.name, figure, **arrays)
        if start is None:  # a first map of these examples
            np.savez_compressed(folder / "thumbnails.npz", **make_thumbnails(trainer, split, index))


def name_axes(features: np.ndarray, xy: np.ndarray, how: How) -> tuple[str, str]:
    """Name the axes of the map (N, 2) of these features (N, D); empty names for t-SNE and UMAP."""
    if features.shape[1] <= 2:
        return "dimension 0", "dimension 1"
    if how != "pca":
        return "", ""
    shares = 100 * xy.var(0) / features.var(0).sum()
    return tuple(
        f"principal component {k}: {share:.0f} % of the variance" for k, share in enumerate(shares, 1)
    )


def draw_feature_map(
    xy: np.ndarray, labels: np.ndarray, names: Sequence[str], axes: tuple[str, str]
) -> Figure:
    """Draw points (N, 2), with classes (N,) or targets (N, T) and their names; a name for each axis, or ''."""
    figure = plt.figure(figsize=(7.5, 6.6))
    axis = place_axes(figure, 0.3, 0.6, 5.7, 5.7)
    if labels.ndim == 1:
        colors = class_colors(labels, len(names))
        scatter_classes(axis, xy, labels, colors)
        draw_legend(axis, names, colors, "no label" if (labels < 0).any() else None)
    else:
        values = scatter_points(axis, xy, labels[:, 0])
        figure.colorbar(
            values, cax=place_axes(figure, 6.1, 0.6, 0.15, 2), label=names[0] if names else "target"
        )
    axis.set_xlabel(axes[0], color=FAINT, fontsize=9)
    axis.set_ylabel(axes[1], color=FAINT, fontsize=9)
    return figure


def read_previous_map(folder: Path, epoch: int, index: np.ndarray) -> np.ndarray | None:
    """Read the newest map before this epoch's; None where that is of other examples."""
    data = read_previous_data(folder, epoch)
    return data["xy"] if data and np.array_equal(data["index"], index) else None
