"""The charts of a report: which metrics are drawn together, and under which title."""

import numpy as np

from common.metrics import SCORE_KINDS, read_name, select_metrics
from reports.chart import Line, describe_ends, make_table, pack_chart
from reports.formatting import format_number
from reports.run import Run

# title, what the axis shows, factor, [(kinds of metrics, split, label, style)]
CHARTS = [
    (
        "Loss",
        "the method's own unit",
        1,
        [
            (["batch_loss"], "train", "batches", "faint"),
            (["loss"], "train", "train", "main"),
            (["loss"], "val", "val", "second"),
            (["loss"], "test", "test", "third"),
        ],
    ),
    (
        "Accuracy of the head",
        "per cent right",
        100,
        [
            (["head"], "train", "train", "main"),
            (["head"], "val", "val", "second"),
            (["head"], "test", "test", "third"),
        ],
    ),
    (
        "Accuracy while training",
        "per cent right",
        100,
        [
            (["online_probe", "bank_probe"], "val", "probe, val", "main"),
            (["online_probe"], "train", "probe, train", "third"),
            (["knn"], "val", "kNN {number}, val", "second"),
        ],
    ),
    (
        "Learning rate",
        "as the optimizer used it",
        1,
        [(["learning_rate"], "", "", "main"), (["group_learning_rate"], "", "{part}", "second")],
    ),
    (
        "Weight decay",
        "as the optimizer used it",
        1,
        [(["weight_decay"], "", "", "main")],
    ),
    (
        "Gradient",
        "norm of all of it, before clipping",
        1,
        [(["gradient_norm"], "train", "", "main")],
    ),
    (
        "Momentum of the teacher",
        "share of its weights that it keeps at a step",
        1,
        [(["momentum"], "train", "", "main")],
    ),
    (
        "Temperature of the teacher",
        "of its softmax",
        1,
        [(["teacher_temperature"], "train", "", "main")],
    ),
    (
        "Effective rank",
        "how many directions the features use",
        1,
        [(["effective_rank"], "val", "val", "main")],
    ),
]


def draw_run_curves(run: Run) -> tuple[list[dict], list[dict]]:
    """The charts every run is read by, and one for each other metric that was logged more than once."""
    charts, used = [], set()
    for title, unit, factor, rows in CHARTS:
        lines = {}
        for kinds, split, label, style in rows:
            for metric in select_metrics(run.metrics, split, *kinds):
                if split == "test" and len(run.metrics[metric.name].value) == 1:  # at the end: no curve
                    continue
                text = label.format(number=metric.number or "", part=metric.part)
                lines[metric.name] = make_line(run, metric.name, text, style, factor)
        used |= set(lines)
        charts += _draw_chart(run, title, unit, lines)
    others = []
    for name, series in run.metrics.items():
        if name not in used and not is_table_number(name) and len(series.value) > 1:
            others += _draw_chart(run, name, "as logged", {name: make_line(run, name, "", "main", 1)})
    return charts, others


def is_table_number(name: str) -> bool:
    """Whether a metric is a number for tables and no curve: of a floor, on test, or of the protocol's probes."""
    metric = read_name(name)
    once = metric.kind in ("probe", "majority", *SCORE_KINDS)
    return bool(metric.floor) or metric.split == "test" or (metric.split == "val" and once)


def describe_loss(run: Run) -> str:
    """Where the loss started and ended."""
    series = run.metrics.get("train/loss")
    if not series or len(series.value) < 2 or not np.isfinite(series.value[[0, -1]]).all():
        return ""
    first, last = series.value[[0, -1]]
    verb = "stayed"
    if last != first:
        verb = "fell" if last < first else "rose"
    unit = "epoch" if run.steps_per_epoch else "logged value"
    return f"The loss {verb} from {format_number(first)} in the first {unit} to {format_number(last)} in the last."


def read_pair(run: Run, first: str, second: str) -> tuple[tuple[float, float], np.ndarray] | None:
    """The newest finite values of two metrics, and all finite ones of the second; None where one has none."""
    pair = run.last(first), run.last(second)
    if None in pair:
        return None
    values = run.metrics[second].value
    return pair, values[np.isfinite(values)]


def make_line(run: Run, metric: str, label: str, style: str, factor: float) -> Line:
    series = run.metrics[metric]
    finite = np.isfinite(series.value)
    return Line(label, run.clock(series)[finite], factor * series.value[finite], style)


def _draw_chart(run: Run, title: str, unit: str, lines: dict[str, Line]) -> list[dict]:
    """The chart of some lines, in a list; an empty list where none has two finite values."""
    lost = sum(int((~np.isfinite(run.metrics[metric].value)).sum()) for metric in lines)
    lines = {metric: line for metric, line in lines.items() if len(line.x)}
    if not any(len(line.x) > 1 for line in lines.values()):
        return []
    x_label = "epoch" if run.steps_per_epoch else "step"
    return [
        {
            "title": title,
            "unit": unit,
            "best": _describe_best(lines, x_label),
            "metrics": ", ".join(lines),
            "lost": lost,
            "table": make_table(lines, x_label),
            "alt": f"{title} by {x_label}: {describe_ends(lines, title)}.",
            "data": pack_chart(list(lines.values()), x_label),
        }
    ]


def _describe_best(lines: dict[str, Line], x_label: str) -> str:
    """When an accuracy on validation was highest, and how high."""
    metrics = {read_name(name): line for name, line in lines.items()}
    accuracies = [line for metric, line in metrics.items() if metric.split == "val" and metric.is_top1]
    if not accuracies or len(accuracies[0].x) < 2:
        return ""
    line, best = accuracies[0], int(accuracies[0].y.argmax())
    return f"{line.name} best at {x_label} {format_number(line.x[best])}, {line.y[best]:.1f} %"
