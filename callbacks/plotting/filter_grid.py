"""Weights as pixels: filters as many small pictures in one, matrices as they are."""

from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.plotting.save import DPI
from callbacks.plotting.style import FAINT, INK, place, title

FEW = 16  # channels that stand side by side in a tile


def signed(weight: np.ndarray) -> np.ndarray:
    """Weights of a filter, of any shape -> [0, 1]: 0.5 is no weight, 0 and 1 the largest in size."""
    return 0.5 + weight / (2 * max(abs(weight).max(), np.finfo(np.float32).tiny))


def strength(weight: np.ndarray) -> np.ndarray:
    """A filter (C, h, w) -> root mean square over its channels (h, w), as a share of the largest."""
    size = np.sqrt(np.square(weight).mean(0))
    return size / max(size.max(), np.finfo(np.float32).tiny)


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Tiles (n, h, w) or (n, h, w, 3) in [0, 1], row after row -> one picture, white between them."""
    count, height, width, *channels = tiles.shape
    rows = -(-count // columns)
    size = rows * (height + gap) - gap, columns * (width + gap) - gap
    picture = np.ones((*size, *channels), np.float32)
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture


def filter_tile(weight: np.ndarray, every_channel: bool) -> np.ndarray:
    """A filter (C, h, w) -> a tile: three channels in color (h, w, 3), one as it is, others side by side or, unless
    `every_channel`, by their root mean square, which is dark where it is large."""
    if len(weight) == 3:
        return signed(weight).transpose(1, 2, 0)
    if every_channel:
        return mosaic(signed(weight), min(len(weight), FEW))
    return 1 - strength(weight)


def picture(filters: np.ndarray) -> np.ndarray:
    """Filters (n, C, h, w) -> all of them as one picture, about as wide as high."""
    few = len(filters[0]) <= FEW
    gap = 3 if few and len(filters[0]) not in (1, 3) else 1
    tiles = np.stack([filter_tile(weight, every_channel=few) for weight in filters])
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    return mosaic(tiles, int(np.ceil((len(tiles) * height / width) ** 0.5)), gap)


def draw_filters(name: str, filters: np.ndarray) -> Figure:
    """Filters (n, C, h, w) as tiles."""
    count, channels, height, width = filters.shape
    drawn = picture(filters)
    times = max(1, round(DPI * 4.5 / drawn.shape[1]))  # whole pixels a weight, or gaps get lost
    tall, wide = (times * side / DPI for side in drawn.shape[:2])  # inches
    figure = plt.figure(figsize=(wide + 0.1, tall + 0.76))
    axis = place(figure, 0.06, 0.76, wide, tall)
    axis.imshow(drawn, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    signs = "light is positive, dark negative, mid-gray no weight"
    how = f"its {channels} channels side by side; {signs}"
    if channels == 1:
        how = signs
    elif channels == 3:
        how = "the three channels as red, green and blue; mid-gray is no weight"
    elif channels > FEW:
        how = f"root mean square over its {channels} channels; dark is strong"
    size = f"{count} filters of {height} x {width}"
    title(figure, f"{name}: {size}", f"Each filter on a scale of its own:\n{how}.")
    return figure


def draw_matrix(name: str, weight: np.ndarray, gates: tuple[str, ...]) -> Figure:
    """A matrix (n, m), its rows the outputs."""
    rows, columns = weight.shape
    width, height = (float(np.clip(side / 100, 2.2, 9)) for side in (columns, rows))
    figure = plt.figure(figsize=(width + 2.2, height + 1.3))
    axis = place(figure, 1.0, 0.75, width, height)
    limit = float(np.quantile(abs(weight), 0.995))
    drawn = axis.imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    bar = figure.colorbar(drawn, cax=place(figure, width + 1.15, 0.75, 0.12, height), extend="both")
    bar.ax.tick_params(labelsize=7, labelcolor=FAINT)
    axis.tick_params(labelsize=7, labelcolor=FAINT, length=2)
    axis.set_xlabel("input", fontsize=8, color=INK)
    axis.set_ylabel("output", fontsize=8, color=INK)
    if gates:
        block = rows // len(gates)
        axis.set_yticks([block * (k + 0.5) - 0.5 for k in range(len(gates))], gates)
        for k in range(1, len(gates)):
            axis.axhline(block * k - 0.5, color=INK, linewidth=0.8)
    under = "Red is positive, blue negative, white no weight; the largest 0.5 % are off the scale."
    title(figure, f"{name}: {rows} x {columns} weights", under)
    return figure


def write_each(filters: np.ndarray, folder: Path) -> None:
    """`folder/K.png` for each filter (n, C, h, w), enlarged to 64 pixels or more, with all its channels."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(filters) - 1))
    for k, weight in enumerate(filters):
        tile = filter_tile(weight, every_channel=True)
        times = -(-64 // min(tile.shape[:2]))
        tile = tile.repeat(times, 0).repeat(times, 1)
        image.imsave(folder / f"{k:0{digits}d}.png", tile, cmap="gray", vmin=0, vmax=1)
