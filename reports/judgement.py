"""Judgements that verdicts and questions share: what counts as equal, as moving, as collapsed."""

import numpy as np

from common.metrics import select_metrics
from reports.run import Run

PAR = 2.0  # points within which two accuracies, one seed each, count as equal
MOVING = 1.0  # points gained in the last quarter of a run that still count as improving
WATCHED = {  # kinds of accuracy that say whether a run still improves, the first that was measured, and whose they are
    "online_probe": "the online probe",
    "bank_probe": "the probe",
    "knn": "nearest neighbors",
    "head": "the classifier",
}
LOW_RANK, LOW_STD = 2.0, 1e-3  # effective rank or spread of features below which they have collapsed


def collapse(run: Run) -> tuple[bool, str] | None:
    """Whether features have, and the evidence; None where nobody measured."""
    rank, std = run.last("val/effective_rank"), run.last("val/feature_std")
    evidence = [f"effective rank {rank:.3g}"] if rank is not None else []
    evidence += [f"feature std {std:.2g}"] if std is not None else []
    if not evidence:
        return None
    return (rank is not None and rank < LOW_RANK) or (std is not None and std < LOW_STD), ", ".join(evidence)


def late(run: Run) -> tuple[float, float, int, str] | None:
    """The last quarter of the run, by the straight line through the validation accuracies in it: gain in points, its
    standard error, how many epochs that is, and whose accuracy."""
    for kind, who in WATCHED.items():
        for metric in select_metrics(run.metrics, "val", kind):
            series = run.metrics[metric.name]
            finite = np.isfinite(series.value)
            if run.steps_per_epoch and finite.sum() >= 4:
                return *late_gain(run.clock(series)[finite], 100 * series.value[finite]), who
    return None


def late_gain(x: np.ndarray, y: np.ndarray) -> tuple[float, float, int]:
    """What y gained in the last quarter, the standard error of that, and how many epochs a quarter is."""
    window = max(1, round(float(x[-1]) / 4))
    late = x >= x[-1] - window
    late[-2:] = True
    x, y = x[late] - x[late].mean(), y[late] - y[late].mean()
    slope = (x @ y) / (x @ x)
    spread = ((y - slope * x) ** 2).sum() / max(len(x) - 2, 1)
    return float(slope * window), float(np.sqrt(spread / (x @ x)) * window), window
