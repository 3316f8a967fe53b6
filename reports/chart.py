"""The data of a chart as charts.js draws it, its table, and its description."""

import math
from dataclasses import dataclass

import numpy as np

from reports.formatting import format_number

MOST_ROWS = 40  # of a table


@dataclass(frozen=True)
class Line:
    """A curve with finite values, x rising.

    Style: main, second, third, or faint for single batches. A `color` (a CSS variable) and a `dash` stand in for it.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str = "main"
    color: str = ""
    dash: tuple[int, ...] | None = None


def thin_curve(x: np.ndarray, y: np.ndarray, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` points: both ends and, of each stretch between, the lowest and the highest."""
    if len(x) <= limit:
        return x, y
    indices = {0, len(x) - 1}
    for part in np.array_split(np.arange(1, len(x) - 1), (limit - 2) // 2):
        indices |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    rows = sorted(indices)
    return x[rows], y[rows]


def pack_chart(lines: list[Line], x_label: str = "epoch") -> dict:
    """All lines over the times that any of them has, null where one has no value; six digits, which is all one sees."""
    thinned = [thin_curve(line.x, line.y) for line in lines]
    times = np.unique(np.concatenate([x for x, _ in thinned]))
    rows = []
    for x, y in thinned:
        row = np.full(len(times), np.nan)
        row[np.searchsorted(times, x)] = y
        rows.append([None if math.isnan(value) else float(f"{value:.6g}") for value in row.tolist()])
    styles = [
        {
            "name": line.name,
            "style": line.style,
            "color": line.color,
            "dash": list(line.dash) if line.dash else None,
        }
        for line in lines
    ]
    return {"x_label": x_label, "x": [float(f"{x:.6g}") for x in times.tolist()], "y": rows, "lines": styles}


def make_table(lines: dict[str, Line], x_label: str) -> dict:
    """A row a point in time, single batches left out where there are means; at most MOST_ROWS, evenly spaced."""
    lines = {metric: line for metric, line in lines.items() if line.style != "faint"} or lines
    columns = {
        metric: dict(zip(line.x.round(2).tolist(), line.y, strict=True)) for metric, line in lines.items()
    }
    times = sorted({time for column in columns.values() for time in column})
    positions = np.unique(np.linspace(0, len(times) - 1, MOST_ROWS).round().astype(int))
    rows = [
        [
            f"{times[i]:g}",
            *(format_number(column[times[i]]) if times[i] in column else "" for column in columns.values()),
        ]
        for i in positions
    ]
    return {"head": [x_label, *columns], "rows": rows, "cut": len(times) if len(times) > len(rows) else 0}


def describe_ends(lines: dict[str, Line], title: str) -> str:
    """'train from 5.2 to 1.1; val from 5.3 to 1.4'."""
    return "; ".join(
        f"{line.name or title} from {format_number(line.y[0])} to {format_number(line.y[-1])}"
        for line in lines.values()
    )
