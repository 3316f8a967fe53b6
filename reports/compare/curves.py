"""Curves of several runs on one chart: a line a run."""

import numpy as np

from common.metrics import select_metrics
from reports.chart import Line, describe_ends, make_table, pack_chart
from reports.compare.members import Member
from reports.description import name_method

# kinds of metrics, split, title, what the axis shows; of any methods no losses, which have different units
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


def draw_shared_curves(members: list[Member]) -> list[dict]:
    """Charts that at least two members are on, a line a member (its first seed)."""
    charts, has_one_method = [], len({name_method(member.first) for member in members}) == 1
    for kinds, split, title, unit in [*ACCURACIES, *(LOSSES if has_one_method else [])]:
        lines, names = {}, {}
        for member in members:
            run = member.first
            for metric in select_metrics(run.metrics, split, *kinds):
                series = run.metrics[metric.name]
                finite = np.isfinite(series.value)
                if finite.sum() > 1 and run.steps_per_epoch:
                    factor = 100 if metric.family.is_percentage else 1
                    x, y = run.clock(series)[finite], factor * series.value[finite]
                    lines[member.name] = Line(member.name, x, y, "main", member.color, member.dash)
                    names[metric.name] = None
        if len(lines) > 1:
            charts.append(_draw_lines(title, unit, lines, ", ".join(names)))
    return charts


def _draw_lines(title: str, unit: str, lines: dict[str, Line], metrics: str) -> dict:
    return {
        "title": title,
        "unit": unit,
        "best": "",
        "metrics": f"{metrics} of each run",
        "lost": 0,
        "table": make_table(lines, "epoch"),
        "alt": f"{title} by epoch: {describe_ends(lines, title)}.",
        "data": pack_chart(list(lines.values()), "epoch"),
    }
