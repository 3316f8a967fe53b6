"""Images under maps of heat, one scale for all of a kind."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from callbacks.plotting.examples import Examples
from callbacks.plotting.style import FAINT, INK, label_name, place_axes, show_example, truncate_text

COLORS, MOST_HEADS = "inferno", 12
# inches: an image, between images, the title, the names of the columns, and beside the images their classes
CELL, GAP, TITLE, NAMES, LEFT = 1.1, 0.06, 0.62, 0.25, 0.3


def overlay_heat(image: np.ndarray, heat: np.ndarray, low: float, high: float) -> np.ndarray:
    """Lay heat (h, w) over an image uint8 (H, W, C) -> (H', W', 3) in [0, 1], three quarters of it the heat's color.

    Args:
        low, high: ends of the scale.
    """
    scale = -(-160 // max(image.shape[:2]))
    gray = image.mean(2, keepdims=True).repeat(scale, 0).repeat(scale, 1) / 255
    cells = torch.from_numpy(heat).float()[None, None]
    smooth = F.interpolate(cells, gray.shape[:2], mode="bicubic")[0, 0].numpy()
    return 0.75 * colormaps[COLORS](Normalize(low, high, clip=True)(smooth))[..., :3] + 0.25 * gray


def choose_scales(heads: np.ndarray, rollout: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Choose the ends of the scales of all heads and of what is rolled out, in even shares.

    They cut off the highest hundredth, of the second also the lowest; even shares are never at an end, so that no
    difference looks larger than it is.
    """
    low, high = np.quantile(rollout, (0.01, 0.99))
    return (0.0, max(2.0, float(np.quantile(heads, 0.99)))), (min(0.9, float(low)), max(1.1, float(high)))


def draw_heat(
    examples: Examples, heads: np.ndarray, rollout: np.ndarray, names: Sequence[str] | None
) -> Figure:
    """Draw a row for each image: itself, the heat of each head, of their mean, and rolled out.

    Args:
        heads: (n, heads, h, w), in even shares.
        rollout: (n, h, w), in even shares.
        names: of the classes; None where labels are numbers.
    """
    limits = choose_scales(heads, rollout)
    shown = min(heads.shape[1], MOST_HEADS)
    columns = {f"head {k + 1}": (heads[:, k], limits[0]) for k in range(shown)}
    columns["mean of heads"] = heads.mean(1), limits[0]
    columns["rolled out"] = rollout, limits[1]
    height = CELL * examples.display.shape[1] / examples.display.shape[2]
    top, step = TITLE + NAMES, CELL + GAP
    right = LEFT + step * (1 + len(columns))
    bottom = top + (height + GAP) * len(heads)
    figure = plt.figure(figsize=(right + 1.1, max(bottom, top + 2.6)))
    for row, image in enumerate(examples.display):
        down = top + row * (height + GAP)
        axis = place_axes(figure, LEFT, down, CELL, height)
        show_example(axis, image, "" if row else "image")
        if names:
            label = truncate_text(label_name(names, int(examples.labels[row])), 13)
            axis.set_ylabel(label, fontsize=8, color=FAINT)
        for column, (name, (heat, scale)) in enumerate(columns.items(), 1):
            axis = place_axes(figure, LEFT + step * column, down, CELL, height)
            show_example(axis, overlay_heat(image, heat[row], *scale), "" if row else name)
    for k, (scale, name) in enumerate(zip(limits, ("heads and mean", "rolled out"), strict=True)):
        bar = place_axes(figure, right + 0.1, top + 0.2 + 1.35 * k, 0.12, 0.95)
        figure.colorbar(ScalarMappable(Normalize(*scale), COLORS), cax=bar, extend="both" if k else "max")
        bar.set_title(name, fontsize=8, color=INK, loc="left", pad=4)
        bar.tick_params(labelsize=7, labelcolor=FAINT, length=2)
    return figure
