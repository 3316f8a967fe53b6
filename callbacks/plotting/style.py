"""Style of all figures: colors of classes, images in a grid, titles."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# a dollar sign in the name of a class, a group or a file, or in a tweet, begins no formula
matplotlib.rcParams["text.parse_math"] = False
DPI = 150
# Petroff 2021, ten colors that color-blind people tell apart, https://arxiv.org/abs/2107.02270
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
OTHER = "#c9c9c4"  # classes beyond the palette
ACCENT, WRONG, INK, FAINT = "#0a7558", "#bd1f01", "#1b1c1f", "#8a8a85"


def class_colors(labels: np.ndarray, count: int) -> list[str]:
    """Choose a color for each of `count` classes; of more than ten, the nine most frequent in `labels` keep one."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    frequent = np.bincount(labels[labels >= 0], minlength=count).argsort(kind="stable")[::-1][:9]
    colors = [OTHER] * count
    for color, k in zip(PALETTE, sorted(frequent), strict=False):
        colors[k] = color
    return colors


def show_example(axis: Axes, image: np.ndarray | str, title: str = "", frame: str | None = None) -> None:
    """Show one example, uint8 (H, W, C) or a text, without ticks.

    Args:
        frame: color of a frame around it.
    """
    axis.set_xticks([])
    axis.set_yticks([])
    if isinstance(image, str):
        text = textwrap.fill(image, 28)
        axis.text(0.03, 0.5, text, fontsize=7, va="center", transform=axis.transAxes)
    else:
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2.5)
    axis.set_title(title, fontsize=8, color=INK, pad=3)


def make_axes_grid(
    rows: int, columns: int, cell: float | tuple[float, float] = 1.0, head: float = 0.6
) -> tuple[Figure, np.ndarray]:
    """Make a figure and its axes (rows, columns), `cell` inches (width, height) each, `head` inches for the title."""
    width, height = (cell, cell) if isinstance(cell, float | int) else cell
    size = columns * width, rows * height + head
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - head / size[1], wspace=0.08, hspace=0.08)
    return figure, axes


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place in the figure; all is in inches, from its left and from its top."""
    figure_width, figure_height = figure.get_size_inches()
    bottom = figure_height - top - height
    return figure.add_axes(
        (left / figure_width, bottom / figure_height, width / figure_width, height / figure_height)
    )


def write_title(figure: Figure, text: str, under: str = "") -> None:
    """Write what the picture shows in bold, and below it in gray how to read it, left aligned above all axes."""
    height = figure.get_size_inches()[1]
    figure.text(0.01, 1 - 0.05 / height, text, fontsize=11, weight="bold", color=INK, va="top")
    figure.text(0.01, 1 - 0.27 / height, under, fontsize=8, color=FAINT, va="top")


def truncate_text(text: str, most: int) -> str:
    """Shorten a text to at most so many characters, for narrow places."""
    return text if len(text) <= most else text[: most - 1] + "…"


def label_name(names: Sequence[str], label: int) -> str:
    """Name of a class; '?' where unlabeled."""
    return names[label] if label >= 0 else "?"
