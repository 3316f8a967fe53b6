"""Images above their principal components, as colors."""

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.measures.components import Components, scale_components
from callbacks.plotting.examples import Examples
from callbacks.plotting.style import FAINT, label_name, make_axes_grid, show_example, truncate_text


def draw_components(
    examples: Examples, components: Components, centered: Components, names: list[str] | None
) -> Figure:
    """Draw a column for each image: itself, three components as one picture, the first alone, and both centered."""
    height, width = examples.display.shape[1:3]
    figure, axes = make_axes_grid(5, len(examples.display), (1.1, 1.1 * height / width + 0.02), head=0.9)
    rows = {"image": examples.display}
    for kind, (scores, shares) in {"": components, "less position:\n": centered}.items():
        colors = color_cells(scores, (height, width))
        percents = [f"{100 * share:.0f}" for share in shares]
        rows[f"{kind}red, green, blue:\n{', '.join(percents)} % of var."] = colors
        rows[f"{kind}red alone"] = colors[..., :1]
    for row, (text, pictures) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(text, fontsize=7, color=FAINT)
        for axis, picture in zip(row, pictures, strict=True):
            show_example(axis, picture)
    for axis, label in zip(axes[0], examples.labels, strict=True):
        axis.set_title(truncate_text(label_name(names, int(label)), 13) if names else "", fontsize=8, pad=3)
    return figure


def color_cells(scores: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Scores (n, 3, h, w) -> pictures uint8 (n, H, W, 3), the cells enlarged to `size`."""
    scaled = scale_components(scores.movedim(1, -1).flatten(0, 2))
    cells = scaled.unflatten(0, (len(scores), *scores.shape[2:])).movedim(-1, 1)
    enlarged = F.interpolate(cells, size, mode="nearest-exact").movedim(1, -1)
    return (255 * enlarged).round().byte().numpy()
