"""The sentences at the top of a report, computed from its numbers.

What is unknown is left out; *stars* mark what is bold.
"""

import numpy as np

from common.metrics import FLOORS
from common.splits import SPLITS
from common.text import plural
from reports.accuracies import Accuracy, compute_chance, read_accuracies, read_ceilings
from reports.description import format_progress
from reports.formatting import format_points
from reports.run import Run
from reports.thresholds import PAR

STATES = {"interrupted": "was interrupted", "failed": "failed", "running": "has not finished"}


def summarize_run(run: Run, ceiling: Run | None = None) -> list[str]:
    """Whether it ended, and what it learned; `check_run` asks whether it collapsed, converged and overfitted."""
    return [sentence for sentence in (describe_end(run), describe_learning(run, ceiling)) if sentence]


def describe_end(run: Run) -> str:
    state, sentence = run.provenance.get("state"), ""
    if state in STATES:
        progress = format_progress(run)
        sentence = f"The run *{STATES[state]}*" + (f" ({progress})." if progress else ".")
    elif not run.finished:
        sentence = "Whether the run finished was not recorded."
    loss = run.metrics.get("train/loss") or run.metrics.get("train/loss_step")
    if loss and not np.isfinite(loss.value[-1]):
        sentence += " Its loss was *not finite* at the end."
    return sentence.strip()


def describe_learning(run: Run, ceiling: Run | None = None) -> str:
    accuracies = [accuracy for accuracy in read_accuracies(run) if accuracy.percent() is not None]
    if not accuracies:
        return "No accuracy of a fixed protocol is known, so what it learned cannot be said."
    accuracies.sort(key=lambda accuracy: accuracy.gain("untrained") is None)  # what has a floor says most
    main, *others = accuracies
    others = [accuracy for accuracy in others if accuracy.split == main.split]
    gains = [gain for accuracy in (main, *others) if (gain := accuracy.gain("untrained")) is not None]
    sentence = f"{_judge_gains(gains)}{_name_protocol(main)} is right on *{main.percent():.1f} %* of the "
    sentence += f"{SPLITS[main.split]} split{_compare_floors(main, compute_chance(run))}"
    sentence += f"{_compare_ceiling(run, main, ceiling)}."
    if others:
        sentence += f" {'; '.join(_describe_other(a, is_first=a is others[0]) for a in others)}."
    return sentence[0].upper() + sentence[1:]


def _judge_gains(gains: list[float]) -> str:
    if not gains:
        return ""
    if min(gains) > PAR:
        return "It *learned*: "
    if max(gains) < -PAR:
        return "Training made the features *worse*: "
    return "It *learned in part*: " if max(gains) > PAR else "It *learned nothing* that shows here: "


def _name_protocol(accuracy: Accuracy) -> str:
    number = accuracy.number
    if accuracy.kind == "head":
        return "its own classifier"
    if accuracy.kind == "knn":
        return f"a vote of the {f'{number} ' if number else ''}nearest neighbors"
    if number:
        return f"a linear probe with {plural(number, 'label')} a class"
    return "a linear probe on the frozen features"


def _compare_floors(accuracy: Accuracy, chance: float | None) -> str:
    """', 28.3 points above the untrained encoder and ...'; without a floor, chance and what is missing."""
    clauses = []
    for floor, name in FLOORS.items():
        if (gain := accuracy.gain(floor)) is not None:
            clauses.append((compare_sides(gain), describe_gain(gain, name, accuracy.percent(floor))))
    if clauses:
        joint = " and " if len({side for side, _ in clauses}) == 1 else ", but "
        return ", " + joint.join(text for _, text in clauses)
    above = ""
    if chance is not None:
        above = ", " + describe_gain(round(accuracy.percent() - chance, 1), "chance", chance)
    return f"{above}; no floor was measured, so how much of that is learned cannot be said"


def _compare_ceiling(run: Run, accuracy: Accuracy, ceiling: Run | None) -> str:
    level = read_ceilings(run, ceiling).get(accuracy.key) if ceiling else None
    if level is None:
        return ""
    gain = round(accuracy.percent() - level, 1)
    return f"; {describe_gain(gain, f'{ceiling.experiment}, the ceiling', level)}"


def compare_sides(gain: float) -> int:
    """1 above, 0 on a par, -1 below."""
    return int(gain > PAR) - int(gain < -PAR)


def describe_gain(gain: float, name: str, level: float) -> str:
    if compare_sides(gain) == 0:
        return f"on a par with {name} ({level:.1f} %)"
    return f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'} {name}"


def _describe_other(accuracy: Accuracy, is_first: bool) -> str:
    """A clause on one more protocol; the first one starts a sentence."""
    number, gain = accuracy.number, accuracy.gain("untrained")
    if accuracy.kind == "knn":
        subject = f"the {f'{number} ' if number else ''}nearest neighbors reach"
    elif accuracy.kind == "head":
        subject = "its own classifier reaches"
    elif number is None:
        subject = "a linear probe reaches"
    else:
        subject = f"with {plural(number, 'label')} a class the probe reaches"
    if is_first:
        subject = subject[0].upper() + subject[1:]
    change = "" if gain is None else f" ({format_points(gain)} against untrained)"
    return f"{subject} {accuracy.percent():.1f} %{change}"
