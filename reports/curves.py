"""Which metrics are drawn together, as what, and their tables."""

import numpy as np

from common.metrics import read_name, select_metrics
from reports.chart import Line, chart, number
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
        "Effective rank",
        "how many directions the features use",
        1,
        [(["effective_rank"], "val", "val", "main")],
    ),
]
ROWS = 40


def curves(run: Run) -> tuple[list[dict], list[dict]]:
    """The charts every run is read by, and one for each other metric that was logged more than once."""
    known, used = [], set()
    for title, unit, factor, patterns in CHARTS:
        lines = {}
        for kinds, split, label, style in patterns:
            for metric in select_metrics(run.metrics, split, *kinds):
                once = split == "test" and len(run.metrics[metric.name].value) == 1  # at the end: no curve
                if not once:
                    text = label.format(number=metric.number or "", part=metric.part)
                    lines[metric.name] = _line(run, metric.name, text, style, factor)
        used |= set(lines)
        known += _drawn(run, title, unit, lines)
    others = []
    for metric, series in run.metrics.items():
        if metric not in used and not is_table_number(metric) and len(series.value) > 1:
            others += _drawn(run, metric, "as logged", {metric: _line(run, metric, "", "main", 1)})
    return known, others


def is_table_number(name: str) -> bool:
    """Whether a metric is shown as a number for tables and not as a curve: floors, test, the protocol's probes."""
    metric = read_name(name)
    return bool(metric.floor) or metric.split == "test" or (metric.split, metric.kind) == ("val", "probe")


def summary(run: Run) -> str:
    """Where the loss started and ended."""
    series = run.metrics.get("train/loss")
    if not series or len(series.value) < 2 or not np.isfinite(series.value[[0, -1]]).all():
        return ""
    first, last = series.value[[0, -1]]
    verb = "fell" if last < first else "rose" if last > first else "stayed"
    unit = "epoch" if run.steps_per_epoch else "logged value"
    return f"The loss {verb} from {number(first)} in the first {unit} to {number(last)} in the last."


def _line(run: Run, metric: str, label: str, style: str, factor: float) -> Line:
    series = run.metrics[metric]
    finite = np.isfinite(series.value)
    return Line(label, run.clock(series)[finite], factor * series.value[finite], style)


def _drawn(run: Run, title: str, unit: str, lines: dict[str, Line]) -> list[dict]:
    lost = sum(int((~np.isfinite(run.metrics[metric].value)).sum()) for metric in lines)
    lines = {metric: line for metric, line in lines.items() if len(line.x)}
    if not any(len(line.x) > 1 for line in lines.values()):
        return []
    x_label = "epoch" if run.steps_per_epoch else "step"
    said = [
        f"{line.name or title} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines.values()
    ]
    drawn = {
        "title": title,
        "unit": unit,
        "metrics": ", ".join(lines),
        "lost": lost,
        "table": table(lines, x_label),
    }
    drawn["says"] = f"{title} by {x_label}: {'; '.join(said)}."
    return [drawn | {"data": chart(list(lines.values()), x_label), "best": _best(lines, x_label)}]


def _best(lines: dict[str, Line], x_label: str) -> str:
    """Of an accuracy on validation: the highest, and when."""
    known = {read_name(metric): line for metric, line in lines.items()}
    watched = [line for metric, line in known.items() if metric.split == "val" and metric.is_top1]
    if not watched or len(watched[0].x) < 2:
        return ""
    at = int(watched[0].y.argmax())
    return f"{watched[0].name} best at {x_label} {number(watched[0].x[at])}, {watched[0].y[at]:.1f} %"


def last_together(run: Run, a: str, b: str) -> tuple[tuple[float, float], np.ndarray] | None:
    """The newest finite values of two metrics, and all finite ones of the second; None where one has none."""
    first, second = run.last(a), run.last(b)
    if first is None or second is None:
        return None
    values = run.metrics[b].value
    return (first, second), values[np.isfinite(values)]


def table(lines: dict[str, Line], x_label: str) -> dict:
    """A row a point in time, single batches left out where there are means; at most ROWS, evenly chosen."""
    kept = {metric: line for metric, line in lines.items() if line.style != "faint"} or lines
    cells = {
        metric: dict(zip(line.x.round(2).tolist(), line.y, strict=True)) for metric, line in kept.items()
    }
    times = sorted({time for column in cells.values() for time in column})
    chosen = [times[i] for i in np.unique(np.linspace(0, len(times) - 1, ROWS).round().astype(int))]
    rows = [[f"{t:g}", *(number(col[t]) if t in col else "" for col in cells.values())] for t in chosen]
    return {"head": [x_label, *cells], "rows": rows, "cut": len(times) if len(times) > len(chosen) else 0}
