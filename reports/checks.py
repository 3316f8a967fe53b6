"""Four checks of every run: a question each, its answer in a word, and the evidence."""

from typing import NamedTuple

import numpy as np

from common.splits import SPLITS
from reports.accuracies import read_accuracies
from reports.curves import read_pair
from reports.formatting import format_points
from reports.run import Run
from reports.thresholds import PAR, detect_collapse, find_trend

FINE, LOOK, UNKNOWN = "fine", "look", "unknown"  # states of a check: `look` asks the reader to look closer


class Check(NamedTuple):
    """One question with the state of its answer, the answer in a word, and the evidence for it."""

    question: str
    state: str
    answer: str
    evidence: str


def check_run(run: Run) -> list[Check]:
    return [
        Check("Better than random?", *check_floor(run)),
        Check("Collapsed?", *check_collapse(run)),
        Check("Converged?", *check_convergence(run)),
        Check("Overfitting?", *check_overfitting(run)),
    ]


def check_floor(run: Run) -> tuple[str, str, str]:
    accuracies = [accuracy for accuracy in read_accuracies(run) if accuracy.gain("untrained") is not None]
    if not accuracies:
        return UNKNOWN, "Not known", "The untrained encoder was not measured."
    main = accuracies[0]
    evidence = f"{main.title}: {main.percent():.1f} % against {main.percent('untrained'):.1f} % for the same network "
    evidence += f"untrained ({SPLITS[main.split]})."
    gains = [main.gain("untrained")]
    if main.gain("majority") is not None:
        gains.append(main.gain("majority"))
        evidence += f" Always naming the largest class is right on {main.percent('majority'):.1f} %."
        for balanced in accuracies:
            if balanced.kind == f"{main.kind}_balanced" and balanced.number == main.number:
                gains.append(balanced.gain("untrained"))
                evidence += f" Balanced accuracy: {balanced.percent():.1f} % against "
                evidence += f"{balanced.percent('untrained'):.1f} % untrained."
    if min(gains) > PAR:
        return FINE, "Yes", evidence
    if max(gains) > PAR:
        return LOOK, "In part", evidence
    answer = "No" if min(gains) < -PAR else "Hardly"
    return LOOK, answer, evidence


def check_collapse(run: Run) -> tuple[str, str, str]:
    if (collapse := detect_collapse(run)) is None:
        return UNKNOWN, "Not known", "The spread of the features was not measured."
    has_collapsed, evidence = collapse
    state, answer = (LOOK, "Yes") if has_collapsed else (FINE, "No")
    return state, answer, f"{evidence.capitalize()}."


def check_convergence(run: Run) -> tuple[str, str, str]:
    if (trend := find_trend(run)) is None:
        return UNKNOWN, "Not known", "Too few validations to tell."
    epochs = f"{trend.epochs} epochs" if trend.epochs > 1 else "epoch"
    evidence = f"{format_points(trend.gain)} points on validation for {trend.owner} in the last {epochs}."
    if trend.is_flat:
        return FINE, "Leveled off", evidence
    if trend.gain > 0:
        return LOOK, "Not yet", f"{evidence} Train longer."
    return LOOK, "Getting worse", evidence


def check_overfitting(run: Run) -> tuple[str, str, str]:
    """Compare training and validation at the end: the classifier's accuracies or, without them, the losses."""
    if pair := read_pair(run, "train/top1", "val/top1"):
        (train, val), val_accuracies = pair
        best = val_accuracies.max()
        evidence = f"Accuracy {100 * train:.1f} % on training, {100 * val:.1f} % on validation"
        if best - val > PAR / 100:
            return LOOK, "Past its best", f"{evidence}, {100 * best:.1f} % at best."
        if train - val > 0.1:
            return LOOK, "Some", f"{evidence}."
        return FINE, "No", f"{evidence}."
    if pair := read_pair(run, "train/loss", "val/loss"):
        (train, val), val_losses = pair
        best = val_losses.min()
        evidence = f"Loss {train:.3g} on training, {val:.3g} on validation"
        if val - best > 0.05 * abs(best):
            return LOOK, "Past its best", f"{evidence}, {best:.3g} at best."
        at_lowest = ", lowest at the end" if np.isclose(val, best) else ""
        return FINE, "No", f"{evidence}{at_lowest}."
    return UNKNOWN, "Not known", "The method has no loss on validation to compare."
