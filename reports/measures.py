"""The table numbers: accuracy by protocol, for the final encoder, the untrained one and the raw input."""

from dataclasses import dataclass, field

from common.metrics import FLOORS, PROTOCOLS, find_family, read_name
from reports.run import NoRunError, Run


@dataclass
class Measure:
    """One protocol: `kind` is probe, knn or, for the run's own classifier, head.

    `found`: (of, split) -> fraction; of is "" for this run or a floor.
    """

    kind: str
    n: int | None
    found: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int | None]:
        return self.kind, self.n

    @property
    def title(self) -> str:
        return "Nearest neighbors" if self.kind == "knn" else find_family(self.kind).format_title(self.n)

    @property
    def protocol(self) -> str:
        if self.kind == "head":
            return "top-1; the head that was trained, at the last epoch"
        if self.kind == "knn":
            return f"top-1; vote of the {self.n} nearest training examples" if self.n else "top-1"
        return f"top-1; frozen features, {'mean of several draws' if self.n else 'all training labels'}"

    @property
    def split(self) -> str:
        """The split that is compared: test where this run has it."""
        return "test" if ("", "test") in self.found or ("", "val") not in self.found else "val"

    def percent(self, of: str = "", split: str | None = None) -> float | None:
        """Accuracy in per cent, rounded as shown, so that differences agree with what is read."""
        value = self.found.get((of, split or self.split))
        return None if value is None else round(100 * value, 1)

    def gain(self, over: str) -> float | None:
        """Points above a floor, on the split compared."""
        own, floor = self.percent(), self.percent(over)
        return None if own is None or floor is None else round(own - floor, 1)


def order(key: tuple[str, int | None]) -> tuple:
    """Sorts keys of measures: the run's own classifier first, then the probe with all labels, with few, then kNN."""
    kind, number = key
    return PROTOCOLS.index(kind), number is not None, -(number or 0)


def measures(run: Run) -> list[Measure]:
    """In the order of all tables."""
    found: dict[tuple[str, int | None], Measure] = {}
    for metric in map(read_name, run.metrics):
        value = run.last(metric.name)
        if metric.in_protocol and value is not None:
            key = (metric.kind, metric.number)
            measure = found.setdefault(key, Measure(*key))
            measure.found[metric.floor, metric.split] = value
    return sorted(found.values(), key=lambda measure: order(measure.key))


def chance(run: Run) -> float | None:
    """Per cent right by guessing among equally frequent classes."""
    classes = run.provenance.get("num_classes") or len(run.provenance.get("class_names") or [])
    return 100 / classes if classes else None


def reads_of_test(run: Run) -> int:
    """How many times the test split was read for this run's own numbers."""
    names = [m.name for m in map(read_name, run.metrics) if m.split == "test" and not m.floor]
    return len({step for name in names for step in run.metrics[name].step})


@dataclass
class Mark:
    """Something on the 0-100 scale; `row`: of labels below the line; `side` keeps the label inside."""

    kind: str
    at: float
    text: str
    row: int = 0

    @property
    def side(self) -> str:
        return "start" if self.at < 8 else "end" if self.at > 88 else "middle"

    @property
    def span(self) -> tuple[float, float]:
        """What the label covers in per cent of a phone's width: about 2 a letter."""
        width = 2.1 * len(self.text)
        left = self.at - {"start": 0, "middle": width / 2, "end": width}[self.side]
        return left, left + width


def ceilings(run: Run, other: Run) -> dict[tuple[str, int | None], float]:
    """What another run on the same data reached, by `Measure.key`, on the split compared."""
    if (a := run.provenance.get("data")) != (b := other.provenance.get("data")):
        raise NoRunError(f"{other.path} is no ceiling for {run.path}: it was trained on {b}, not on {a}")
    if run.provenance.get("class_names") != other.provenance.get("class_names"):
        raise NoRunError(f"{other.path} is no ceiling for {run.path}: it tells other classes apart")
    theirs = {measure.key: measure for measure in measures(other)}
    found = {m.key: theirs[m.key].percent(split=m.split) for m in measures(run) if m.key in theirs}
    return {key: value for key, value in found.items() if value is not None}


def scale(measure: Measure, guess: float | None, ceiling: float | None = None) -> list[Mark]:
    """Chance, floors, ceiling and this run, left to right; labels that would touch go to rows of their own."""
    marks = []
    if guess is not None:
        marks.append(Mark("chance", guess, f"chance {guess:.0f}" if guess >= 1 else f"chance {guess:.1f}"))
    for of in FLOORS:
        if (value := measure.percent(of)) is not None:
            marks.append(Mark(of, value, f"{of} {value:.1f}"))
    if ceiling is not None:
        marks.append(Mark("ceiling", ceiling, f"ceiling {ceiling:.1f}"))
    marks.sort(key=lambda mark: mark.at)
    ends: list[float] = []
    for mark in marks:
        left, right = mark.span
        mark.row = next((row for row, end in enumerate(ends) if left > end + 1), len(ends))
        ends[mark.row : mark.row + 1] = [right]
    if (value := measure.percent()) is not None:
        marks.append(Mark("own", value, f"{value:.1f}"))
    return marks
