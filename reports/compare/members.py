"""The runs of a comparison: seeds of one config are one member, told from others by color, shape and dash."""

from dataclasses import dataclass
from statistics import mean, stdev

from reports.facts import duration
from reports.groups import Group, groups
from reports.measures import Measure, chance, measures
from reports.results import data
from reports.run import Run
from reports.verdict import progress
from reports.words import method

# color (a CSS variable), shape, dash: the first three, then classes' colors with new shapes
STYLES = [
    ("--accent", "disc", None),
    ("--ink", "square", (7, 4)),
    ("--mute", "ring", (2, 4)),
    ("--c1", "diamond", (10, 3, 2, 3)),
    ("--c4", "triangle", (4, 2)),
    ("--c0", "disc", (1, 3)),
    ("--c6", "square", (8, 2, 1, 2)),
    ("--c9", "diamond", (3, 3)),
]


@dataclass
class Member:
    """One config, a run a seed; `first` stands for it in pictures."""

    id: str
    name: str
    group: Group
    color: str
    shape: str
    dash: tuple[int, ...] | None

    @property
    def first(self) -> Run:
        return self.group.first

    @property
    def data(self) -> str:
        return data(self.first)

    @property
    def measures(self) -> dict[tuple[str, int | None], list[Measure]]:
        """By protocol, those of every seed that has it."""
        found: dict[tuple[str, int | None], list[Measure]] = {}
        for run in self.group.runs:
            for measure in measures(run):
                found.setdefault(measure.key, []).append(measure)
        return found

    def percent(self, key: tuple[str, int | None], split: str, of: str = "") -> list[float]:
        found = [measure.found.get((of, split)) for measure in self.measures.get(key, [])]
        return [100 * value for value in found if value is not None]

    @property
    def says(self) -> str:
        """What it is, in a line under its name."""
        said = self.first.provenance
        parts = [
            f"{self.first.experiment}/{', '.join(run.version for run in self.group.runs)}",
            progress(self.first),
        ]
        if said.get("wall_s"):
            parts.append(duration(said["wall_s"]))
        if self.first.provenance.get("state") not in (None, "finished"):
            parts.append(f"{said['state']}, so its numbers are not final")
        return ", ".join(part for part in parts if part)


def members(runs: list[Run]) -> list[Member]:
    """In the order given; names are methods, and where that is not enough also experiments, then versions."""
    found = groups(runs)
    for naming in (lambda r: method(r), lambda r: r.experiment, lambda r: f"{r.experiment}/{r.version}"):
        names = [naming(group.first) for group in found]
        if len(set(names)) == len(names) and all(names):
            break
    return [
        Member(f"run{k}", name, group, *STYLES[k % len(STYLES)])
        for k, (name, group) in enumerate(zip(names, found, strict=True))
    ]


def spread(values: list[float], digits: int = 1) -> tuple[str, float | None]:
    """'62.4 ± 0.3' over seeds, without ± for one; and the mean to sort by."""
    if not values:
        return "", None
    text = f"{mean(values):,.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""), mean(values)


def guess(found: list[Member]) -> float | None:
    """Chance, where it is the same for all."""
    levels = {chance(member.first) for member in found}
    return levels.pop() if len(levels) == 1 else None
