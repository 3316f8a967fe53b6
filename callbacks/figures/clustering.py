"""Clusters of features, found without labels, beside the classes."""

from math import ceil
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.evaluation.features import Features, eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.measures.clusters import assign_clusters, match_classes, measure_agreement, reduce_dimensions
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.save import save_figure
from callbacks.plotting.scatter import NAMES, draw_legend, project_to_plane, scatter_classes
from callbacks.plotting.style import INK, class_colors, place_axes, write_title
from common.ranges import FloatFromOne, NonNegativeInt, PositiveInt
from common.splits import SPLITS

Layer = Literal["features", "maps"]
Plane = Literal["none", "pca", "tsne", "umap"]
WORDS = NAMES | {
    "maps": "spatial means of maps",
    "kernel_pca": "kernel PCA",
    "kmeans": "k-means",
}


class Clustering(FigureCallback):
    """Draws clusters of features beside the classes, and measures how well they agree.

    The stages are `layer` -> kernel PCA -> `plane` -> k-means.

    `SPLIT/cluster_accuracy` with each cluster standing for a class so that it is largest, `SPLIT/nmi` (normalized
    mutual information, 0 to 1) and `SPLIT/ari` (adjusted Rand index, 0 for chance, 1 for the same partition).
    Cost: 5 s on one core for 1,000 points, of which t-SNE takes nearly all.

    Args:
        points: labeled examples, as equal a number of each class as there is.
        layer: what is clustered: features, or the means over space of the encoder's `maps`, which know less of where
            things are. The two are the same where features are pooled maps.
        dims: that kernel PCA leaves.
        plane: takes these to two; `none` clusters what kernel PCA gave, and draws its principal components.
        clusters: how many; as many as the classes if None.
        perplexity: of t-SNE.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("cluster_accuracy", "nmi", "ari")

    def __init__(
        self,
        points: PositiveInt = 1000,
        layer: Layer = "features",
        dims: PositiveInt = 50,
        plane: Plane = "tsne",
        clusters: PositiveInt | None = None,
        perplexity: FloatFromOne = 30.0,
        every_n_epochs: NonNegativeInt = 0,
    ):
        super().__init__(every_n_epochs)
        self.points, self.layer, self.dims = points, layer, dims
        self.plane, self.clusters, self.perplexity = plane, clusters, perplexity

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        data = trainer.datamodule
        if data.task != "classification":
            self.skip_figure("the data have no classes")
            return
        if self.layer == "maps" and not hasattr(module.encoder, "maps"):
            self.skip_figure(f"{type(module.encoder).__name__} has no maps")
            return
        labeled = Features.find_in(trainer).collect_split(trainer).select_labeled()
        if not trainer.is_global_zero:
            return
        rows = pick_evenly(labeled.labels, self.points)
        x, labels, index = (column.cpu().numpy() for column in labeled.select_rows(rows))
        count = self.clusters or len(np.unique(labels))
        enough = len(x) >= max(4, count)
        if enough and self.layer == "maps":
            x = extract_mean_maps(trainer, module, split, index)
            if x is None:
                self.skip_figure(f"the maps of {type(module.encoder).__name__} have no height and width")
                return
            if not np.isfinite(x).all():
                self.skip_figure(f"the maps of {type(module.encoder).__name__} are not finite")
                return
        if not enough or not (x != x[0]).any():
            self.skip_figure(f"{count} clusters need more labeled examples, and features that differ")
            return
        xy, clusters = self.find_clusters(x, count)
        scores = measure_agreement(clusters, labels)
        module.log_dict({f"{split}/{name}": score for name, score in scores.items()}, rank_zero_only=True)
        stages = [self.layer, "kernel_pca", self.plane, "kmeans"]
        figure = draw_clusters(xy, labels, match_classes(clusters, labels), data.class_names)
        write_title(figure, *caption_clusters(scores, f"{len(x):,} {SPLITS[split]} examples", count, stages))
        facts = {"split": split, "stages": stages, "clusters": count, **scores}
        arrays = {"xy": xy, "index": index, "labels": labels, "clusters": clusters}
        save_figure(trainer, "clustering", figure, facts, **arrays)

    def find_clusters(self, x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Turn features (N, D) into a map (N, 2) and clusters (N,)."""
        x = reduce_dimensions(x, self.dims)
        if self.plane == "none":
            return project_to_plane(x, "pca"), assign_clusters(x, count)
        xy = project_to_plane(x, self.plane, self.perplexity)
        return xy, assign_clusters(xy, count)


def extract_mean_maps(
    trainer: Trainer, module: LightningModule, split: str, index: np.ndarray
) -> np.ndarray | None:
    """Extract the means over space (N, D) of the encoder's maps, for the examples at these positions (N,) in a split.

    None where the maps are not (B, D, h, w).
    """
    means = []
    for part in np.array_split(index, ceil(len(index) / 256)):
        view = load_examples(trainer, split, part).view
        with eval_mode(trainer, module):
            maps = module.encoder.maps(view)
        if maps.ndim != 4:
            return None
        means.append(maps.float().mean((2, 3)).cpu())
    return torch.cat(means).numpy()


def caption_clusters(
    scores: dict[str, float], examples: str, count: int, stages: list[str]
) -> tuple[str, str]:
    """Write a title, and what goes under it."""
    accuracy, nmi, ari = scores.values()
    layer, *steps = (WORDS.get(stage, stage) for stage in stages if stage != "none")
    recipe = f"{count} clusters of {layer} by {', '.join(steps)}"
    return (
        f"{100 * accuracy:.1f} % of {examples} lie in the cluster that stands for their class",
        f"{recipe}. Normalized mutual information {nmi:.2f}, adjusted Rand index {ari:.2f}.",
    )


def draw_clusters(xy: np.ndarray, labels: np.ndarray, stands_for: np.ndarray, names: list[str]) -> Figure:
    """Draw points (N, 2) twice: in the colors of their classes (N,), and of those that their clusters stand for."""
    figure, colors = plt.figure(figsize=(10.4, 5.3)), class_colors(labels, len(names))
    for left, heading, kinds in (
        (0.1, "classes", labels),
        (4.6, "clusters, in the color of the class that each stands for", stands_for),
    ):
        axis = place_axes(figure, left, 0.85, 4.35, 4.35)
        scatter_classes(axis, xy, kinds, colors)
        axis.set_title(heading, loc="left", fontsize=9, color=INK)
    draw_legend(axis, names, colors, "no class" if (stands_for < 0).any() else None)
    return figure
