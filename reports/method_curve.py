"""The curve of a kept run as an SVG: small, the same letters each time, and readable on light and dark pages."""

import math

from common.metrics import read_name, select_metrics
from reports.formatting import format_number
from reports.run import Run

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 52, 190, 16, 40
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
FLOOR = "#777777"
FALLBACKS = ("val/reconstruction_mse", "val/loss", "train/loss")  # where no accuracy was measured


def select_curves(run: Run) -> list[str]:
    """Accuracies on validation that were measured in several epochs; without any, an error."""
    accuracies = select_metrics(run.metrics, "val", "knn", "online_probe", "head")
    names = [metric.name for metric in accuracies if len(run.metrics[metric.name].value) > 1]
    others = [name for name in FALLBACKS if name in run.metrics and len(run.metrics[name].value) > 1]
    return names[: len(COLORS)] or others[:1]


def draw_curve(run: Run) -> str | None:
    """Curves over epochs, and dashed lines at the kNN of the untrained encoder and of raw pixels; None without any."""
    names = select_curves(run)
    if not names:
        return None
    factor = 100 if read_name(names[0]).family.is_percentage else 1
    curves = [
        (read_name(name).title, run.clock(run.metrics[name]), factor * run.metrics[name].value)
        for name in names
    ]
    knn = next((name.removeprefix("val/") for name in names if read_name(name).kind == "knn"), None)
    floors = {floor: run.last(f"{floor}/val/{knn}") for floor in ("untrained", "pixels")}
    floors = {f"kNN, {floor}": factor * value for floor, value in floors.items() if value is not None}
    values = [float(y) for _, _, ys in curves for y in ys if math.isfinite(y)] + list(floors.values())
    ticks = choose_ticks(min(values), max(values))
    last = max(float(xs.max()) for _, xs, _ in curves)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - ticks[0]) / (ticks[-1] - ticks[0])
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / last
        return round(across, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    lines = [
        draw_tick(place(0, tick)[1], f"{format_number(tick)}{' %' if factor == 100 else ''}")
        for tick in ticks
    ]
    labels = []
    for name, value in floors.items():
        height = place(0, value)[1]
        lines.append(f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="{FLOOR}" stroke-dasharray="5 4"/>')
        labels.append((height, FLOOR, name))
    for (title, xs, ys), color in zip(curves, COLORS, strict=False):
        points = [place(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True) if math.isfinite(y)]
        path = "L".join(f"{x} {y}" for x, y in points)
        lines.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        labels.append((points[-1][1], color, title))
    lines += draw_labels(labels)
    lines.append(draw_text(WIDTH - RIGHT, HEIGHT - 12, f"{last:g} epochs", "end"))
    return wrap_svg([*lines, draw_text(LEFT, HEIGHT - 12, "0", "middle")])


def choose_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around a range."""
    width = max(high - low, 1e-6 * max(abs(high), 1))
    unit = 10 ** math.floor(math.log10(width))
    step = next(unit * factor for factor in (0.2, 0.5, 1, 2) if width / (unit * factor) <= 4)
    first, end = math.floor(low / step), math.ceil(high / step)
    return [round(step * k, 10) for k in range(first, max(end, first + 1) + 1)]


def draw_tick(height: float, text: str) -> str:
    line = f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
    return line + draw_text(LEFT - 6, height + 4, text, "end")


def draw_labels(labels: list[tuple[float, str, str]]) -> list[str]:
    """Names at the ends of their lines, from top to bottom, moved down where they would overlap."""
    texts, free = [], 0.0
    for height, color, name in sorted(labels):
        free = max(height + 4, free)
        texts.append(draw_text(WIDTH - RIGHT + 8, round(free, 1), name, "start", color))
        free += 15
    return texts


def draw_text(x: float, y: float, text: str, anchor: str, color: str = "#333333") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}">{text}</text>'


def wrap_svg(lines: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12"'
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>'
    return "\n".join([f"{head} {style}>", paper, *lines, "</svg>"]) + "\n"
