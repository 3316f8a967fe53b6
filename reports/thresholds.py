"""What counts as equal, as still moving and as collapsed, for summaries and checks."""

import math
from typing import NamedTuple

import numpy as np

from common.metrics import select_metrics
from common.rank import least_rank
from reports.run import Run

PAR = 2.0  # points within which two accuracies, one seed each, count as equal
MOVING = 1.0  # points gained in the last quarter of a run that still count as improving
LOW_RANK, LOW_STD = 2.0, 1e-3  # effective rank or spread of features below which they have collapsed
WATCHED = {  # kinds of accuracy that show whether a run still improves, the best one first, with whose it is
    "online_probe": "the online probe",
    "bank_probe": "the probe",
    "knn": "nearest neighbors",
    "head": "the classifier",
}


class Trend(NamedTuple):
    """How an accuracy changed in the last quarter of a run, with the standard error; and how many epochs that is."""

    gain: float
    error: float
    epochs: int
    owner: str

    @property
    def is_flat(self) -> bool:
        return abs(self.gain) <= max(MOVING, 2 * self.error)


def detect_collapse(run: Run) -> tuple[bool, str] | None:
    """Whether features have collapsed, and the evidence; None where nobody measured."""
    rank, std = run.last("val/effective_rank"), run.last("val/feature_std")
    evidence = [f"effective rank {rank:.3g}"] if rank is not None else []
    evidence += [f"feature std {std:.2g}"] if std is not None else []
    if not evidence:
        return None
    examples = (run.provenance.get("examples") or {}).get("val") or math.inf
    low_rank = least_rank(LOW_RANK, examples, run.provenance.get("encoder_dim") or math.inf)
    is_low = (rank is not None and rank < low_rank) or (std is not None and std < LOW_STD)
    return is_low, ", ".join(evidence)


def find_trend(run: Run) -> Trend | None:
    """The trend of the first watched accuracy on validation that has four values; None where none has."""
    for kind, owner in WATCHED.items():
        for metric in select_metrics(run.metrics, "val", kind):
            series = run.metrics[metric.name]
            finite = np.isfinite(series.value)
            if not run.steps_per_epoch or finite.sum() < 4:
                continue
            times = run.clock(series)[finite]
            if (
                times[-1] > times[-2]
            ):  # an epoch without a step, such as one of batch norms alone, takes no time
                return Trend(*fit_late_gain(times, 100 * series.value[finite]), owner)
    return None


def fit_late_gain(x: np.ndarray, y: np.ndarray) -> tuple[float, float, int]:
    """The gain of y in the last quarter of x, by a straight line; its standard error; and the epochs of a quarter."""
    window = max(1, round(float(x[-1]) / 4))
    late = x >= x[-1] - window
    late[-2:] = True
    x, y = x[late] - x[late].mean(), y[late] - y[late].mean()
    slope = (x @ y) / (x @ x)
    residual = ((y - slope * x) ** 2).sum() / max(len(x) - 2, 1)
    return float(slope * window), float(np.sqrt(residual / (x @ x)) * window), window
