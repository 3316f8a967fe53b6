"""Four questions that every run is asked, each with an answer in a word and the evidence."""

import numpy as np

from common.splits import SPLITS
from reports.curves import last_together
from reports.judgement import MOVING, PAR, collapse, late
from reports.measures import measures
from reports.run import Run
from reports.verdict import signed

FINE, LOOK, UNKNOWN = "fine", "look", "unknown"  # states of an answer


def questions(run: Run) -> list[dict]:
    asked = {
        "Better than random?": better(run),
        "Collapsed?": collapsed(run),
        "Converged?": converged(run),
        "Overfitting?": overfitting(run),
    }
    return [
        {"question": question, "state": state, "answer": answer, "evidence": evidence}
        for question, (state, answer, evidence) in asked.items()
    ]


def better(run: Run) -> tuple[str, str, str]:
    known = [m for m in measures(run) if m.gain("untrained") is not None]
    if not known:
        return UNKNOWN, "Not known", "The untrained encoder was not measured."
    main = known[0]
    own, floor = main.percent(), main.percent("untrained")
    said = f"{main.title}: {own:.1f} % against {floor:.1f} % for the same network untrained ({SPLITS[main.split]})."
    if main.gain("untrained") > PAR:
        return FINE, "Yes", said
    return LOOK, "No" if main.gain("untrained") < -PAR else "Hardly", said


def collapsed(run: Run) -> tuple[str, str, str]:
    if (found := collapse(run)) is None:
        return UNKNOWN, "Not known", "Nobody measured the spread of features."
    have, evidence = found
    return (LOOK, "Yes", f"{evidence.capitalize()}.") if have else (FINE, "No", f"{evidence.capitalize()}.")


def converged(run: Run) -> tuple[str, str, str]:
    if (found := late(run)) is None:
        return UNKNOWN, "Not known", "Too few validations to tell."
    gain, error, window, who = found
    epochs = f"{window} epochs" if window > 1 else "epoch"
    said = f"{signed(gain)} points on validation for {who} in the last {epochs}."
    if abs(gain) <= max(MOVING, 2 * error):
        return FINE, "Levelled off", said
    return (LOOK, "Not yet", f"{said} Train longer.") if gain > 0 else (LOOK, "Getting worse", said)


def overfitting(run: Run) -> tuple[str, str, str]:
    """By the classifier's accuracies, else by the losses, on training and on validation at the end."""
    if pair := last_together(run, "train/top1", "val/top1"):
        (train, val), best = pair[0], pair[1].max()
        said = f"Accuracy {100 * train:.1f} % on training, {100 * val:.1f} % on validation"
        if best - val > PAR / 100:
            return LOOK, "Past its best", f"{said}, {100 * best:.1f} % at best."
        return (LOOK, "Some", f"{said}.") if train - val > 0.1 else (FINE, "No", f"{said}.")
    if pair := last_together(run, "train/loss", "val/loss"):
        (train, val), best = pair[0], pair[1].min()
        said = f"Loss {train:.3g} on training, {val:.3g} on validation"
        if val - best > 0.05 * abs(best):
            return LOOK, "Past its best", f"{said}, {best:.3g} at best."
        return FINE, "No", f"{said}, lowest at the end." if np.isclose(val, best) else f"{said}."
    return UNKNOWN, "Not known", "The method has no loss on validation to compare."
