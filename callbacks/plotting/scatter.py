"""Maps of features: from many dimensions to two, where neighbors stay neighbors, and the points as a picture."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from callbacks.plotting.style import INK, OTHER

How = Literal["tsne", "umap", "pca"]
NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}


def project_to_plane(
    x: np.ndarray, how: How = "tsne", perplexity: float = 30.0, start: np.ndarray | None = None
) -> np.ndarray:
    """Points (N, D) -> their places on a map, (N, 2) float32; two dimensions or one are the map already.

    Neighbors of t-SNE and UMAP are those among the first 50 principal components. Equal arguments give equal maps, and
    nothing is drawn from a global generator.

    Args:
        how: t-SNE (van der Maaten & Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html; from 10,000 points on
            as Linderman et al. 2019, https://arxiv.org/abs/1712.09005), UMAP (McInnes et al. 2018,
            https://arxiv.org/abs/1802.03426) or the first two principal components.
        perplexity: how many neighbors count to a point of t-SNE; a third of all points at most.
        start: another map (N, 2) of the same points, which t-SNE and UMAP move on from.

    Raises:
        MisconfigurationException: UMAP is not installed.
    """
    if x.shape[1] <= 2:
        return np.pad(x, ((0, 0), (0, 2 - x.shape[1]))).astype(np.float32)
    if min(x.shape) > 50 or how == "pca":
        from sklearn.decomposition import PCA

        x = PCA(2 if how == "pca" else 50, random_state=0).fit_transform(x)
    if how == "tsne":
        x = run_tsne(x, min(perplexity, (len(x) - 1) / 3), start)
    elif how == "umap":
        x = run_umap(x, start)
    return np.ascontiguousarray(x, np.float32)


def run_tsne(x: np.ndarray, perplexity: float, start: np.ndarray | None) -> np.ndarray:
    """Points (N, D) -> a map (N, 2) by openTSNE."""
    # imported here, since above it would make every start slower
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    return TSNE(
        perplexity=perplexity,
        initialization="pca" if start is None else rescale(start),
        neighbors="exact",
        ints_in_interval=2,  # of the grid for repulsion: half as fine as openTSNE has it, for half the time
        n_jobs=torch.get_num_threads(),
        random_state=0,
    ).fit(x)


def run_umap(x: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """Points (N, D) -> a map (N, 2) by umap-learn."""
    try:
        from umap import UMAP
    except ImportError:
        raise MisconfigurationException("UMAP needs umap-learn: pip install umap-learn") from None
    init = "spectral" if start is None else start
    return UMAP(n_neighbors=min(15, len(x) - 1), init=init, random_state=0, n_jobs=1).fit_transform(x)


def scatter_points(axis: Axes, xy: np.ndarray, colors: Sequence) -> PathCollection:
    """Scatter points (N, 2), with a color or a number each, in a random order: no class lies over the others."""
    order = np.random.default_rng(0).permutation(len(xy))
    size = np.clip(12000 / len(xy), 4, 36)
    dots = axis.scatter(*xy[order].T, size, np.asarray(colors)[order], linewidths=0, plotnonfinite=True)
    dots.set_cmap(colormaps["viridis"].with_extremes(bad=OTHER))
    axis.set(xticks=[], yticks=[])
    axis.set_aspect("equal", adjustable="datalim")
    axis.spines[:].set_color("#e2e0d9")
    return dots


def scatter_classes(axis: Axes, xy: np.ndarray, labels: np.ndarray, colors: Sequence[str]) -> None:
    """Scatter points (N, 2) in the colors of their classes (N,), gray where -1."""
    scatter_points(axis, xy, [colors[k] if k >= 0 else OTHER for k in labels])


def draw_legend(axis: Axes, names: Sequence[str], colors: Sequence[str], unknown: str | None) -> None:
    """Draw what the colors mean to the right of the axes; `unknown` names the points of no class, if there are any."""
    entries = [(name, color) for name, color in zip(names, colors, strict=True) if color != OTHER]
    if len(entries) < len(names):
        entries.append(("other classes", OTHER))
    if unknown:
        entries.append((unknown, OTHER))
    dots = [axis.scatter([], [], 36, color, linewidths=0, label=name) for name, color in entries]
    axis.legend(
        handles=dots, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9, labelcolor=INK
    )
