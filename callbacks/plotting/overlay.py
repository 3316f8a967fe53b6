"""Images with the activation of a class laid over them: lit where it is, dim elsewhere."""

import numpy as np
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.plotting.examples import Examples
from callbacks.plotting.style import FAINT, INK, WRONG, place_axes, show_example, truncate_text

CONTOUR = "#ffd24d"
# inches: an image, between images, between groups of them, a line of both and captions, and a row
CELL, GAP, APART, LINE, START, WIDTH = 1.1, 0.06, 0.22, 1.46, 0.14, 14.8


def overlay_activation(image: np.ndarray, activation: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lay an activation (h, w) over an image uint8 (H, W, C).

    Returns:
        A picture (H', W', 3) in [0, 1], in color where the activation is and dim gray elsewhere; and the light on it
        (H', W'), 1 at the activation's maximum, 0 where it is not positive.
    """
    scale = -(-160 // max(image.shape[:2]))
    image = np.broadcast_to(image, (*image.shape[:2], 3)).repeat(scale, 0).repeat(scale, 1) / 255
    light = F.interpolate(activation[None, None].float().cpu(), image.shape[:2], mode="bicubic")[0, 0]
    # bicubic overshoots: without a positive activation there is no light
    positive = float(activation.max()) > 0
    light = (light / light.max().clamp(min=1e-12)).clamp(min=0).numpy() * positive
    gray = 0.45 * image.mean(2, keepdims=True)
    return light[..., None] * image + (1 - light[..., None]) * gray, light


def draw_activations(
    examples: Examples, maps: Tensor, classes: Tensor, prob: Tensor, right: int, wrong: int, names: list[str]
) -> Figure:
    """Draw images with the activations of classes beside each.

    The first `right` images are right answers, then come `wrong` mistakes, then images of either kind. A mistake, of
    whichever group, has the activations of two classes, a right answer those of all.
    """
    groups, names = [], [truncate_text(name, 15) for name in names]
    for row in range(len(classes)):
        image, answer, label = examples.display[row], int(classes[row, 0]), int(examples.labels[row])
        mistake = answer != label
        caption = f"\N{BALLOT X} says {names[answer]}\nis {names[label]}" if mistake else names[label]
        cells = [(image, None, caption)]
        for k in range(2 if mistake else classes.shape[1]):
            caption = f"{names[int(classes[row, k])]}: {100 * prob[row, k]:.0f} %"
            cells.append((*overlay_activation(image, maps[row, k]), caption))
        groups.append(cells)
    correct, mistakes, same = groups[:right], groups[right : right + wrong], groups[right + wrong :]
    sections = {
        "Confident and right: the surest of a class, and what speaks for it and for others": correct,
        "Confident and wrong: the surest mistakes, and what speaks for the answer and for the truth": mistakes,
        "The same images in every run, whatever it says of them": same,
    }
    return lay_out_groups({heading: section for heading, section in sections.items() if section})


def lay_out_groups(sections: dict[str, list[list[tuple]]]) -> Figure:
    """Draw headings with groups of (picture, light, caption), as many groups in a row as there is room for."""
    places, top = [], 0.5
    for heading, groups in sections.items():
        places.append((START, top + 0.3, heading))
        left, top = START, top + 0.35
        for group in groups:
            if left > START and left + len(group) * (CELL + GAP) > WIDTH:
                left, top = START, top + LINE
            places += [(left + k * (CELL + GAP), top, cell) for k, cell in enumerate(group)]
            left += len(group) * (CELL + GAP) + APART
        top += LINE
    width = max(x + CELL for x, _, cell in places if not isinstance(cell, str))
    figure = plt.figure(figsize=(width, top))
    for x, y, cell in places:
        if isinstance(cell, str):
            figure.text(x / width, 1 - y / top, cell, fontsize=9, weight="bold", color=INK)
        else:
            draw_cell(place_axes(figure, x, y + LINE - CELL, CELL, CELL), *cell)
    return figure


def draw_cell(axis: Axes, picture: np.ndarray, light: np.ndarray | None, caption: str) -> None:
    """Draw an image, framed where the caption has the two lines of a mistake, or an overlay with its contour."""
    color = WRONG if "\n" in caption else INK
    if light is not None:
        color = FAINT
    show_example(axis, picture, frame=WRONG if color == WRONG else None)
    axis.set_title(caption, fontsize=7, color=color, pad=3, loc="left")
    if light is not None and light.max() > 0.5:
        axis.contour(light, [0.5], colors=CONTOUR, linewidths=0.8)
