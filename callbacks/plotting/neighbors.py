"""Pictures of queries beside their neighbors, images or texts."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.plotting.style import FAINT, INK, WRONG, place_axes, show_example, truncate_text

Entry = dict  # of one query: `query` with its `label`, and lists of [position, class, similarity]


def describe_neighbor(neighbor: list, label: int | None, names: Sequence[str] | None) -> tuple[str, str]:
    """Describe a neighbor by class and similarity, with a cross where the class is not `label`; text and color."""
    _, kind, similarity = neighbor
    if kind is None:
        return f"{similarity:.2f}", INK
    name = f"{truncate_text(names[kind], 10)} {similarity:.2f}"
    return (name, INK) if kind == label else (f"✗ {name}", WRONG)


def describe_row(kind: str, entry: Entry) -> str:
    """Describe a row of neighbors: by what they are nearest, and how many have the query's class."""
    by = "features" if kind == "neighbors" else kind
    label = entry["query"]["label"]
    if label is None:
        return f"by {by}"
    right = sum(neighbor[1] == label for neighbor in entry[kind])
    return f"by {by}\n{right} of {len(entry[kind])}"


def draw_image_neighbors(
    entries: list[Entry], images: dict[str, np.ndarray], names: Sequence[str] | None
) -> Figure:
    """Draw a block for each query: its neighbors by features in a row, those by the raw input in smaller images."""
    kinds = [name for name in images if name != "query"]
    count, top, block = len(entries[0][kinds[0]]), 0.65, 2.05
    figure = plt.figure(figsize=(2.0 + 0.98 * count, top + block * len(entries)))
    for row, entry in enumerate(entries):
        label = entry["query"]["label"]
        name = "" if label is None else truncate_text(names[label], 14)
        show_example(place_axes(figure, 0.1, top + 0.2, 0.9, 0.9), images["query"][row], name)
        down = top + 0.2
        for kind, side in zip(kinds, (0.9, 0.6), strict=True):
            write_text(figure, 1.12, down, describe_row(kind, entry), color=FAINT)
            for column, neighbor in enumerate(entry[kind]):
                axis = place_axes(figure, 2.0 + 0.98 * column + (0.9 - side) / 2, down, side, side)
                text, color = describe_neighbor(neighbor, label, names)
                show_example(
                    axis, images[kind][row * count + column], text, WRONG if color == WRONG else None
                )
                axis.title.set(color=color, fontsize=7.5)
            down += side + 0.2
        top += block
    return figure


def draw_text_neighbors(
    entries: list[Entry], texts: dict[str, list[str]], names: Sequence[str] | None
) -> Figure:
    """Draw a block for each query: below it, neighbors by features on the left, by the raw input on the right."""
    kinds = [name for name in texts if name != "query"]
    count, top, line = len(entries[0][kinds[0]]), 0.7, 0.18
    block = line * (count + 3.5)
    figure = plt.figure(figsize=(13, top + block * len(entries)))
    for row, entry in enumerate(entries):
        label = entry["query"]["label"]
        name = "" if label is None else f"{names[label]}: "
        write_text(figure, 0.13, top, f"{name}{fit_on_line(texts['query'][row], 150)}", weight="bold")
        for left, kind in zip((0.13, 6.6), kinds, strict=True):
            write_text(
                figure, left, top + 1.2 * line, describe_row(kind, entry).replace("\n", ", "), color=FAINT
            )
            for k, neighbor in enumerate(entry[kind]):
                text, color = describe_neighbor(neighbor, label, names)
                down = top + (2.2 + k) * line
                write_text(figure, left, down, text, color=color)
                write_text(figure, left + 1.2, down, fit_on_line(texts[kind][row * count + k], 80))
        top += block
    return figure


def fit_on_line(text: str, most: int) -> str:
    """Put a text on one line of at most so many characters."""
    return truncate_text(" ".join(text.split()), most)


def write_text(figure: Figure, left: float, top: float, text: str, **style) -> None:
    """Write at a place in inches from the figure's left and top."""
    width, height = figure.get_size_inches()
    style = {"fontsize": 8, "color": INK, "va": "top"} | style
    figure.text(left / width, 1 - top / height, text, **style)
