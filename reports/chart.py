"""Line charts: from numbers to the coordinates that templates/chart.html draws."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT, TOP, BOTTOM = 380, 232, 24, 36
LETTER, GAP = 7.2, 14  # width of a letter and height of a label, in the same units


@dataclass(frozen=True)
class Line:
    """A curve with finite values, x rising. Style: main, second, third, or faint for single batches."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str = "main"


def thin(x: np.ndarray, y: np.ndarray, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` points: both ends and, of each stretch between, the lowest and the highest."""
    if len(x) <= limit:
        return x, y
    keep = {0, len(x) - 1}
    for part in np.array_split(np.arange(1, len(x) - 1), (limit - 2) // 2):
        keep |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    kept = sorted(keep)
    return x[kept], y[kept]


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    if whole:
        step = max(1, round(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """Short: 12,000  3.2  0.0004  1e-5."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.2e}"
    if "e" in text:
        digits, power = text.split("e")
        text = f"{float(digits):g}e{int(power)}"
    return text.replace("-", "−", 1) if text.startswith("-") else text  # noqa: RUF001


def chart(lines: list[Line], x_label: str = "epoch") -> dict:
    """Coordinates of grid, lines and the labels at their ends, for one SVG of WIDTH by HEIGHT."""
    x0, x1 = _range([np.array([0.0]), *(line.x for line in lines)], pad=0)
    y0, y1 = _range([line.y for line in lines], pad=0.05)
    y_ticks = ticks(y0, y1)
    left = 10 + LETTER * max(len(number(tick)) for tick in y_ticks)
    right = WIDTH - 12 - LETTER * max(len(line.name) for line in lines)

    def at(x, y):
        px = left + (x - x0) / (x1 - x0) * (right - left)
        py = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)
        return np.round(px, 1), np.round(py, 1)

    curves = []
    for line in lines:
        x, y = at(*thin(line.x, line.y))
        dots = list(zip(x, y, strict=True)) if len(x) <= 25 and line.style != "faint" else []
        points = " ".join(f"{a:g},{b:g}" for a, b in zip(x, y, strict=True))
        curves.append({"style": line.style, "points": points, "dots": dots, "name": line.name, "end": y[-1]})
    for curve, y in zip(curves, _apart([c["end"] for c in curves]), strict=True):
        curve["label_y"] = y
    x_ticks = ticks(x0, x1, most=5, whole=x1 - x0 >= 2)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": left,
        "right": right,
        "bottom": HEIGHT - BOTTOM,
        "x_label": x_label,
        "x_ticks": [(at(tick, y0)[0], number(tick)) for tick in x_ticks],
        "y_ticks": [(at(x0, tick)[1], number(tick)) for tick in y_ticks],
        "curves": curves,
    }


def _range(arrays: list[np.ndarray], pad: float) -> tuple[float, float]:
    low, high = float(min(a.min() for a in arrays)), float(max(a.max() for a in arrays))
    if high - low <= 1e-9 * max(abs(high), abs(low), 1e-30):  # one point, or a constant
        spread = abs(high) * 0.1 or 0.5
        return low - spread, high + spread
    margin = pad * (high - low)
    start = 0.0 if pad and 0 <= low < 0.25 * high else low - margin
    return start, high + margin


def _apart(ends: list[float]) -> list[float]:
    """Heights of labels near the line ends that do not cover each other."""
    order = np.argsort(ends, kind="stable")
    placed = np.array(ends, dtype=float)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + GAP)
    overflow = placed.max() - (HEIGHT - BOTTOM)
    for below, above in pairwise(order[::-1]):
        if overflow > 0:
            placed[below] = min(placed[below], HEIGHT - BOTTOM)
            placed[above] = min(placed[above], placed[below] - GAP)
    return placed.round(1).tolist()
