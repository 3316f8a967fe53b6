"""Weights as pixels: filters as small tiles of one picture, matrices whole."""

from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from callbacks.plotting.style import DPI, FAINT, INK, place_axes, write_title

MAX_CHANNELS = 16  # that stand side by side in a tile


def scale_weights(weight: np.ndarray) -> np.ndarray:
    """Weights of a filter, of any shape -> [0, 1]: 0.5 is no weight, 0 and 1 are the largest in size."""
    return 0.5 + weight / (2 * max(abs(weight).max(), np.finfo(np.float32).tiny))


def rms_over_channels(weight: np.ndarray) -> np.ndarray:
    """A filter (C, h, w) -> root mean square over its channels (h, w), as a share of the largest."""
    rms = np.sqrt(np.square(weight).mean(0))
    return rms / max(rms.max(), np.finfo(np.float32).tiny)


def arrange_tiles(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
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
    """A filter (C, h, w) -> a tile (h', w') or, for three channels, in color (h, w, 3).

    Other channels stand side by side or, unless `every_channel`, are their root mean square, dark where it is large.
    """
    if len(weight) == 3:
        return scale_weights(weight).transpose(1, 2, 0)
    if every_channel:
        return arrange_tiles(scale_weights(weight), min(len(weight), MAX_CHANNELS))
    return 1 - rms_over_channels(weight)


def filter_grid(filters: np.ndarray) -> np.ndarray:
    """Filters (n, C, h, w) -> all of them as one picture, about as wide as high."""
    channels = len(filters[0])
    side_by_side = channels <= MAX_CHANNELS
    gap = 3 if side_by_side and channels not in (1, 3) else 1
    tiles = np.stack([filter_tile(weight, every_channel=side_by_side) for weight in filters])
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    return arrange_tiles(tiles, int(np.ceil((len(tiles) * height / width) ** 0.5)), gap)


def draw_filters(name: str, filters: np.ndarray) -> Figure:
    """Draw filters (n, C, h, w) as tiles."""
    count, channels, height, width = filters.shape
    picture = filter_grid(filters)
    pixels = max(1, round(DPI * 4.5 / picture.shape[1]))  # of a weight; a whole number, or gaps get lost
    tall, wide = (pixels * side / DPI for side in picture.shape[:2])  # inches
    figure = plt.figure(figsize=(wide + 0.1, tall + 0.76))
    axis = place_axes(figure, 0.06, 0.76, wide, tall)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    signs = "light is positive, dark negative, mid-gray no weight"
    scale = f"its {channels} channels side by side; {signs}"
    if channels == 1:
        scale = signs
    elif channels == 3:
        scale = "the three channels as red, green and blue; mid-gray is no weight"
    elif channels > MAX_CHANNELS:
        scale = f"root mean square over its {channels} channels; dark is strong"
    size = f"{count} filters of {height} x {width}"
    write_title(figure, f"{name}: {size}", f"Each filter on a scale of its own:\n{scale}.")
    return figure


def draw_matrix(name: str, weight: np.ndarray, gates: tuple[str, ...]) -> Figure:
    """Draw a matrix (n, m) whose rows are the outputs."""
    rows, columns = weight.shape
    width, height = (float(np.clip(side / 100, 2.2, 9)) for side in (columns, rows))
    figure = plt.figure(figsize=(width + 2.2, height + 1.3))
    axis = place_axes(figure, 1.0, 0.75, width, height)
    limit = float(np.quantile(abs(weight), 0.995))
    picture = axis.imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    bar = figure.colorbar(picture, cax=place_axes(figure, width + 1.15, 0.75, 0.12, height), extend="both")
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
    write_title(figure, f"{name}: {rows} x {columns} weights", under)
    return figure


def write_filters(filters: np.ndarray, folder: Path) -> None:
    """Write `folder/K.png` for each filter (n, C, h, w), enlarged to 64 pixels or more, with all its channels."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(filters) - 1))
    for k, weight in enumerate(filters):
        tile = filter_tile(weight, every_channel=True)
        pixels = -(-64 // min(tile.shape[:2]))  # of a weight
        tile = tile.repeat(pixels, 0).repeat(pixels, 1)
        image.imsave(folder / f"{k:0{digits}d}.png", tile, cmap="gray", vmin=0, vmax=1)
