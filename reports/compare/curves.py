"""Curves of several runs on one chart: a line a run."""

import numpy as np

from common.metrics import select_metrics
from reports.chart import Line, chart, number
from reports.compare.members import Member
from reports.curves import table
from reports.words import method

# kinds of metrics, split, title, what the axis shows; accuracies only: losses of methods have different units
ACCURACIES = [
    (["knn"], "val", "kNN on validation", "per cent right"),
    (["online_probe", "bank_probe"], "val", "Linear probe on validation, while training", "per cent right"),
    (["head"], "val", "Classifier on validation", "per cent right"),
    (["head"], "train", "Classifier on training", "per cent right"),
    (["effective_rank"], "val", "Effective rank", "how many directions the features use"),
]
# of one method: its own units
LOSSES = [
    (["loss"], "train", "Loss on training", "the method's own unit"),
    (["loss"], "val", "Loss on validation", "the method's own unit"),
    (["reconstruction"], "train", "Reconstruction error on training", "the method's own unit"),
    (["reconstruction"], "val", "Reconstruction error on validation", "the method's own unit"),
]


def curves(found: list[Member]) -> list[dict]:
    """Charts that at least two members are on, a line a member (its first seed)."""
    charts, one_method = [], len({method(member.first) for member in found}) == 1
    for kinds, split, title, unit in [*ACCURACIES, *(LOSSES if one_method else [])]:
        lines, metrics = {}, {}
        for member in found:
            run = member.first
            for metric in select_metrics(run.metrics, split, *kinds):
                series = run.metrics[metric.name]
                finite = np.isfinite(series.value)
                if finite.sum() > 1 and run.steps_per_epoch:
                    factor = 100 if metric.family.is_percentage else 1
                    x, y = run.clock(series)[finite], factor * series.value[finite]
                    lines[member.name] = Line(member.name, x, y, "main", member.color, member.dash)
                    metrics[metric.name] = None
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
