"""The runs of a comparison: seeds of one config are one member, told from others by color, shape and dash."""

from dataclasses import dataclass
from statistics import mean, stdev

from reports.accuracies import Accuracy, Protocol, compute_chance, rank_protocol, read_accuracies
from reports.description import format_progress, name_method
from reports.formatting import format_duration
from reports.groups import Group, group_runs
from reports.results import describe_data
from reports.run import Run

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
        return describe_data(self.first)

    @property
    def accuracies(self) -> dict[Protocol, list[Accuracy]]:
        """By protocol, those of every seed that has it."""
        accuracies: dict[Protocol, list[Accuracy]] = {}
        for run in self.group.runs:
            for accuracy in read_accuracies(run):
                accuracies.setdefault(accuracy.key, []).append(accuracy)
        return accuracies

    def percent(self, key: Protocol, split: str, floor: str = "") -> list[float]:
        """What every seed that has the protocol reached, not rounded."""
        values = [accuracy.values.get((floor, split)) for accuracy in self.accuracies.get(key, [])]
        return [100 * value for value in values if value is not None]

    @property
    def description(self) -> str:
        """The line under its name: runs, epochs, time, and how they ended."""
        record = self.first.provenance
        versions = ", ".join(run.version for run in self.group.runs)
        parts = [f"{self.first.experiment}/{versions}", format_progress(self.first)]
        if record.get("wall_s"):
            parts.append(format_duration(record["wall_s"]))
        if record.get("state") not in (None, "finished"):
            parts.append(f"{record['state']}, so its numbers are not final")
        return ", ".join(part for part in parts if part)


def make_members(runs: list[Run]) -> list[Member]:
    """Members in the order of their runs; names are methods, where that is not enough experiments, then versions."""
    groups = group_runs(runs)
    for name_run in (name_method, lambda run: run.experiment, lambda run: f"{run.experiment}/{run.version}"):
        names = [name_run(group.first) for group in groups]
        if len(set(names)) == len(names) and all(names):
            break
    return [
        Member(f"run{k}", name, group, *STYLES[k % len(STYLES)])
        for k, (name, group) in enumerate(zip(names, groups, strict=True))
    ]


def list_protocols(members: list[Member]) -> list[Protocol]:
    """The protocols that any member has, in the order of all tables."""
    return sorted({key for member in members for key in member.accuracies}, key=rank_protocol)


def average_seeds(values: list[float], digits: int = 1) -> tuple[str, float | None]:
    """'62.4 ± 0.3' over seeds, without ± for one; and the mean to sort by."""
    if not values:
        return "", None
    text = f"{mean(values):,.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""), mean(values)


def shared_chance(members: list[Member], key: Protocol) -> float | None:
    """Chance by a protocol, where it is the same for all that have it."""
    measured = [(member.first, member.accuracies[key][0]) for member in members if key in member.accuracies]
    levels = {compute_chance(run, accuracy) for run, accuracy in measured}
    return levels.pop() if len(levels) == 1 else None
