"""The sentences at the top of a report, computed from its numbers.

They leave out what is unknown; *stars* mark bold words.
"""

import numpy as np

from common.metrics import LEVELS, SCORES
from common.splits import SPLITS
from common.text import plural
from reports.accuracies import Accuracy, compute_chance, read_accuracies, read_ceilings
from reports.description import format_progress
from reports.formatting import format_points, join_names
from reports.run import Run
from reports.thresholds import PAR

STATES = {"interrupted": "was interrupted", "failed": "failed", "running": "has not finished"}


def summarize_run(run: Run, ceiling: Run | None = None) -> list[str]:
    """Say whether the run finished and what it learned; `check_run` tells if it collapsed, converged and overfitted."""
    return [sentence for sentence in (describe_end(run), describe_learning(run, ceiling)) if sentence]


def describe_end(run: Run) -> str:
    state = run.provenance.get("state")
    sentence = ""
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
    measured = [accuracy for accuracy in read_accuracies(run) if accuracy.percent() is not None]
    accuracies = [accuracy for accuracy in measured if not accuracy.score]
    if not accuracies:
        return "No accuracy of a fixed protocol is known, so it is unknown what the run learned."
    accuracies.sort(key=lambda accuracy: accuracy.gain(accuracy.start) is None)  # those with a floor first
    main = accuracies[0]
    others = [accuracy for accuracy in accuracies[1:] if accuracy.split == main.split]
    scores = [accuracy for accuracy in measured if accuracy.score and accuracy.split == main.split]
    sentence = _judge_gains(_list_gains([main, *others], scores), main.start) + _name_protocol(main)
    sentence += f" is right on *{main.percent():.1f} %* of the {SPLITS[main.split]} split"
    sentence += f"{_compare_floors(main, compute_chance(run, main))}{_compare_ceiling(run, main, ceiling)}."
    text = _capitalize_first(sentence)
    if others:
        text += f" {_capitalize_first('; '.join(map(_describe_other, others)))}."
    of_main = [s for s in scores if (s.judge, s.number) == (main.judge, main.number)]
    return text + (f" {_describe_scores(of_main)}" if of_main else "")


def _list_gains(accuracies: list[Accuracy], scores: list[Accuracy]) -> list[float]:
    """List the gains over where training started, the first accuracy's first.

    Of uneven classes they are those of balanced accuracies, and what the first one has above the largest class.
    """
    balanced = [score for score in scores if score.score == "balanced"]
    gains = [accuracy.gain(accuracy.start) for accuracy in balanced or accuracies]
    return [gain for gain in (*gains, accuracies[0].gain("majority")) if gain is not None]


def _describe_scores(scores: list[Accuracy]) -> str:
    """Write the sentence on what top-1 hides where classes are uneven."""
    parts = [f"{SCORES[score.score]} {score.percent():.1f} %{_describe_change(score)}" for score in scores]
    return f"Classes are uneven; each counts as much in its {join_names(parts)}."


def _capitalize_first(sentence: str) -> str:
    """Capitalize the first letter and, unlike `str.capitalize`, keep the others."""
    return sentence[0].upper() + sentence[1:]


def _judge_gains(gains: list[float], start: str) -> str:
    """Start the sentence with a judgement of the gains over where training started; empty where there are none."""
    if not gains:
        return ""
    if start == "before" and max(map(abs, gains)) <= PAR:
        return "Little *changed against before*: "
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
        return f"a vote of the {_name_neighbors(number)}"
    if number:
        return f"a linear probe with {plural(number, 'label')} a class"
    return "a linear probe on the frozen features"


def _name_neighbors(number: int | None) -> str:
    return f"{number} nearest neighbors" if number else "nearest neighbors"


def _compare_floors(accuracy: Accuracy, chance: float | None) -> str:
    """Write ', 28.3 points above the untrained encoder and ...'; without a floor, compare with chance."""
    clauses, signs = [], set()
    for floor, name in LEVELS.items():
        gain = accuracy.gain(floor)
        if gain is not None:
            clauses.append(describe_gain(gain, name, accuracy.percent(floor)))
            signs.add(gain_sign(gain))
    if clauses:
        conjunction = " and " if len(signs) == 1 else ", but "
        return ", " + ", ".join([*clauses[:-2], conjunction.join(clauses[-2:])])
    above = ""
    if chance is not None:
        above = ", " + describe_gain(round(accuracy.percent() - chance, 1), "chance", chance)
    return f"{above}; no floor was measured, so it is unknown how much of that was learned"


def _compare_ceiling(run: Run, accuracy: Accuracy, ceiling: Run | None) -> str:
    """Write '; 5.2 points below supervised, the ceiling'; empty where its accuracy is unknown."""
    level = read_ceilings(run, ceiling).get(accuracy.key) if ceiling else None
    if level is None:
        return ""
    gain = round(accuracy.percent() - level, 1)
    return f"; {describe_gain(gain, f'{ceiling.experiment}, the ceiling', level)}"


def gain_sign(gain: float) -> int:
    """Return 1 for a gain, -1 for a loss and 0 for what is too small to count."""
    return int(gain > PAR) - int(gain < -PAR)


def describe_gain(gain: float, name: str, level: float) -> str:
    if gain_sign(gain) == 0:
        return f"on a par with {name} ({level:.1f} %)"
    return f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'} {name}"


def _describe_other(accuracy: Accuracy) -> str:
    """Write a clause on one more protocol."""
    number = accuracy.number
    if accuracy.kind == "knn":
        subject = f"the {_name_neighbors(number)} reach"
    elif accuracy.kind == "head":
        subject = "its own classifier reaches"
    elif number is None:
        subject = "a linear probe reaches"
    else:
        subject = f"with {plural(number, 'label')} a class the probe reaches"
    return f"{subject} {accuracy.percent():.1f} %{_describe_change(accuracy)}"


def _describe_change(accuracy: Accuracy) -> str:
    """Write ' (+1.2 against untrained)', or against before, where training started from other weights."""
    for floor, name in ((accuracy.start, accuracy.start), ("majority", "the largest class")):
        if (gain := accuracy.gain(floor)) is not None:
            return f" ({format_points(gain)} against {name})"
    return ""
