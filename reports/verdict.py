"""Sentences computed from the numbers. What is unknown is left out; *stars* mark what is bold."""

import numpy as np

from common.metrics import FLOORS
from common.splits import SPLITS
from common.text import plural
from reports.judgement import MOVING, PAR, collapse, late
from reports.measures import Measure, ceilings, chance, measures
from reports.run import Run, dig


def verdict(run: Run, ceiling: Run | None = None) -> list[str]:
    """Did it end, did it learn, did it collapse, was it still improving."""
    return [said for said in (stopped(run), learned(run, ceiling), collapsed(run), improving(run)) if said]


def progress(run: Run) -> str:
    """'12 of 20 epochs', as far as known."""
    done, planned = run.epochs, dig(run.config, "trainer", "max_epochs")
    if done is None:
        return ""
    if isinstance(planned, int) and planned >= done:
        return f"{done} of {planned} epochs"
    return plural(done, "epoch")


def stopped(run: Run) -> str:
    what = {"interrupted": "was interrupted", "failed": "failed", "running": "has not finished"}
    state, said = run.provenance.get("state"), ""
    if state in what:
        said = f"The run *{what[state]}*" + (f" ({progress(run)})." if progress(run) else ".")
    elif not run.finished:
        said = "Whether the run finished was not recorded."
    loss = run.metrics.get("train/loss") or run.metrics.get("train/loss_step")
    if loss and not np.isfinite(loss.value[-1]):
        said += " Its loss was *not finite* at the end."
    return said.strip()


def learned(run: Run, ceiling: Run | None = None) -> str:
    known = [m for m in measures(run) if m.percent() is not None]
    if not known:
        return "No accuracy of a fixed protocol is known, so what it learned cannot be said."
    known.sort(key=lambda m: m.gain("untrained") is None)  # what has a floor says most
    main, others = known[0], [m for m in known[1:] if m.split == known[0].split]
    gains = [g for m in (main, *others) if (g := m.gain("untrained")) is not None]
    right = f"is right on *{main.percent():.1f} %* of the {SPLITS[main.split]} split"
    said = (
        f"{_opening(gains)}{_subject(main)} {right}{_against(main, chance(run))}{_below(run, main, ceiling)}."
    )
    if others:
        said += f" {'; '.join(_briefly(m, first=m is others[0]) for m in others)}."
    return said[0].upper() + said[1:]


def _opening(gains: list[float]) -> str:
    if not gains:
        return ""
    if min(gains) > PAR:
        return "It *learned*: "
    if max(gains) < -PAR:
        return "Training made the features *worse*: "
    return "It *learned in part*: " if max(gains) > PAR else "It *learned nothing* that shows here: "


def _subject(measure: Measure) -> str:
    if measure.kind == "head":
        return "its own classifier"
    if measure.kind == "knn":
        return f"a vote of the {measure.n or ''} nearest neighbors".replace("  ", " ")
    return (
        f"a linear probe with {plural(measure.n, 'label')} a class"
        if measure.n
        else "a linear probe on the frozen features"
    )


def _against(measure: Measure, guess: float | None) -> str:
    """', 28.3 points above the untrained encoder and ...'; without a floor, chance and what is missing."""
    clauses = []
    for of, name in FLOORS.items():
        if (gain := measure.gain(of)) is not None:
            clauses.append((side(gain), relation(gain, name, measure.percent(of))))
    if clauses:
        joint = " and " if len({where for where, _ in clauses}) == 1 else ", but "
        return ", " + joint.join(text for _, text in clauses)
    above = "" if guess is None else ", " + relation(round(measure.percent() - guess, 1), "chance", guess)
    return f"{above}; no floor was measured, so how much of that is learned cannot be said"


def _below(run: Run, measure: Measure, ceiling: Run | None) -> str:
    most = ceilings(run, ceiling).get(measure.key) if ceiling else None
    if most is None:
        return ""
    return f"; {relation(round(measure.percent() - most, 1), f'{ceiling.experiment}, the ceiling', most)}"


def side(gain: float) -> int:
    """1 above, 0 on a par, -1 below."""
    return int(gain > PAR) - int(gain < -PAR)


def relation(gain: float, name: str, value: float) -> str:
    if side(gain) == 0:
        return f"on a par with {name} ({value:.1f} %)"
    return f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'} {name}"


def _briefly(measure: Measure, first: bool) -> str:
    gain = measure.gain("untrained")
    if measure.kind == "knn":
        who = f"{'The' if first else 'the'} {measure.n or ''} nearest neighbors reach".replace("  ", " ")
    elif measure.kind == "head":
        who = f"{'Its' if first else 'its'} own classifier reaches"
    elif measure.n is None:
        who = f"{'A' if first else 'a'} linear probe reaches"
    else:
        who = f"{'With' if first else 'with'} {plural(measure.n, 'label')} a class the probe reaches"
    change = "" if gain is None else f" ({signed(gain)} against untrained)"
    return f"{who} {measure.percent():.1f} %{change}"


def signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")  # noqa: RUF001


def collapsed(run: Run) -> str:
    if (found := collapse(run)) is None:
        return ""
    have, evidence = found
    return f"The features {'*collapsed*' if have else 'have not collapsed'} ({evidence})."


def improving(run: Run) -> str:
    if (found := late(run)) is None:
        return ""
    gain, error, window, who = found
    epochs = f"{window} epochs" if window > 1 else "epoch"
    said = f"{signed(gain)} points on validation for {who} in the last {epochs}"
    if abs(gain) <= max(MOVING, 2 * error):
        return f"It had levelled off: {said}."
    return f"It was *{'still improving' if gain > 0 else 'getting worse'}* at the end: {said}."
