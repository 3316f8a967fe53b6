"""Curves of several runs on one chart: a line a run."""

import re

import numpy as np

from reports.chart import Line, chart, number
from reports.compare.members import Member
from reports.curves import table
from reports.words import method

# accuracies only: losses of different methods have different units
ACCURACIES = [
    (r"val/knn(\d*)_top1", "kNN on validation", "per cent right"),
    (r"val/(online|bank)_probe_top1", "Linear probe on validation, while training", "per cent right"),
    (r"val/top1", "Classifier on validation", "per cent right"),
    (r"train/top1", "Classifier on training", "per cent right"),
    (r"val/effective_rank", "Effective rank", "how many directions the features use"),
]
# of one method: its own units
LOSSES = [
    (r"train/loss", "Loss on training", "the method's own unit"),
    (r"val/loss", "Loss on validation", "the method's own unit"),
    (r"train/reconstruction", "Reconstruction error on training", "the method's own unit"),
    (r"val/reconstruction", "Reconstruction error on validation", "the method's own unit"),
]


def curves(found: list[Member]) -> list[dict]:
    """Charts that at least two members are on, a line a member (its first seed)."""
    charts, one_method = [], len({method(member.first) for member in found}) == 1
    for pattern, title, unit in [*ACCURACIES, *(LOSSES if one_method else [])]:
        lines, metrics = {}, {}
        for member in found:
            run = member.first
            for metric, series in run.metrics.items():
                finite = np.isfinite(series.value)
                if re.fullmatch(pattern, metric) and finite.sum() > 1 and run.steps_per_epoch:
                    factor = 100 if metric.endswith("top1") else 1
                    x, y = run.clock(series)[finite], factor * series.value[finite]
                    lines[member.name] = Line(member.name, x, y, "main", member.color, member.dash)
                    metrics[metric] = None
        if len(lines) > 1:
            charts.append(one_chart(title, unit, lines, ", ".join(metrics)))
    return charts


def one_chart(title: str, unit: str, lines: dict[str, Line], metrics: str) -> dict:
    said = [f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines.values()]
    return {
        "title": title,
        "unit": unit,
        "best": "",
        "metrics": f"{metrics} of each run",
        "lost": 0,
        "table": table(lines, "epoch"),
        "says": f"{title} by epoch: {'; '.join(said)}.",
        "data": chart(list(lines.values()), "epoch"),
    }
