"""Pictures of queries beside their neighbors, images or texts."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.plotting.style import FAINT, INK, WRONG, place, shortened, show

Entry = dict  # of one query: `query` with its `label`, and lists of [position, class, similarity]


def told(neighbor: list, label: int | None, names: Sequence[str] | None) -> tuple[str, str]:
    """Class and similarity of a neighbor, with a cross where the class is not `label`; and in which color."""
    _, kind, similarity = neighbor
    if kind is None:
        return f"{similarity:.2f}", INK
    name = f"{shortened(names[kind], 10)} {similarity:.2f}"
    return (name, INK) if kind == label else (f"✗ {name}", WRONG)


def head(kind: str, entry: Entry) -> str:
    """By what these neighbors are nearest, and how many have the query's class."""
    by = "features" if kind == "neighbors" else kind
    label = entry["query"]["label"]
    if label is None:
        return f"by {by}"
    right = sum(neighbor[1] == label for neighbor in entry[kind])
    return f"by {by}\n{right} of {len(entry[kind])}"


def draw_images(entries: list[Entry], shown: dict[str, np.ndarray], names: Sequence[str] | None) -> Figure:
    """A query a block: its neighbors by features in a row, those by the raw input in a row of smaller images."""
    kinds = [name for name in shown if name != "query"]
    count, top, block = len(entries[0][kinds[0]]), 0.65, 2.05
    figure = plt.figure(figsize=(2.0 + 0.98 * count, top + block * len(entries)))
    for row, entry in enumerate(entries):
        label = entry["query"]["label"]
        name = "" if label is None else shortened(names[label], 14)
        show(place(figure, 0.1, top + 0.2, 0.9, 0.9), shown["query"][row], name)
        down = top + 0.2
        for kind, side in zip(kinds, (0.9, 0.6), strict=True):
            write(figure, 1.12, down, head(kind, entry), color=FAINT)
            for column, neighbor in enumerate(entry[kind]):
                axis = place(figure, 2.0 + 0.98 * column + (0.9 - side) / 2, down, side, side)
                text, color = told(neighbor, label, names)
                show(axis, shown[kind][row * count + column], text, WRONG if color == WRONG else None)
                axis.title.set(color=color, fontsize=7.5)
            down += side + 0.2
        top += block
    return figure


def draw_texts(entries: list[Entry], shown: dict[str, list[str]], names: Sequence[str] | None) -> Figure:
    """A query a block: below it, its neighbors by features on the left, those by the raw input on the right."""
    kinds = [name for name in shown if name != "query"]
    count, top, line = len(entries[0][kinds[0]]), 0.7, 0.18
    block = line * (count + 3.5)
    figure = plt.figure(figsize=(13, top + block * len(entries)))
    for row, entry in enumerate(entries):
        label = entry["query"]["label"]
        name = "" if label is None else f"{names[label]}: "
        write(figure, 0.13, top, f"{name}{line_of(shown['query'][row], 150)}", weight="bold")
        for left, kind in zip((0.13, 6.6), kinds, strict=True):
            write(figure, left, top + 1.2 * line, head(kind, entry).replace("\n", ", "), color=FAINT)
            for k, neighbor in enumerate(entry[kind]):
                text, color = told(neighbor, label, names)
                down = top + (2.2 + k) * line
                write(figure, left, down, text, color=color)
                write(figure, left + 1.2, down, line_of(shown[kind][row * count + k], 80))
        top += block
    return figure


def line_of(text: str, most: int) -> str:
    return shortened(" ".join(text.split()), most)


def write(figure: Figure, left: float, top: float, text: str, **style) -> None:
    """At a place in inches from the figure's left and top; `$` is a dollar sign."""
    width, height = figure.get_size_inches()
    style = {"fontsize": 8, "color": INK, "va": "top", "parse_math": False} | style
    figure.text(left / width, 1 - top / height, text, **style)
