"""The accuracies of tables, by protocol: of the final encoder, of the untrained one and of the raw input."""

from dataclasses import dataclass, field

from common.metrics import PROTOCOLS, find_family, read_name
from reports.run import NoRunError, Run

Protocol = tuple[str, int | None]  # kind of metric, and labels a class or number of neighbors


@dataclass
class Accuracy:
    """What one protocol measured: `kind` is probe, knn or, for the run's own classifier, head.

    `values`: (floor, split) -> fraction; the floor is "" for the run itself.
    """

    kind: str
    number: int | None
    values: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def key(self) -> Protocol:
        return self.kind, self.number

    @property
    def title(self) -> str:
        return "Nearest neighbors" if self.kind == "knn" else find_family(self.kind).format_title(self.number)

    @property
    def protocol(self) -> str:
        if self.kind == "head":
            return "top-1; the head that was trained, at the last epoch"
        if self.kind == "knn":
            return f"top-1; vote of the {self.number} nearest training examples" if self.number else "top-1"
        return f"top-1; frozen features, {'mean of several draws' if self.number else 'all training labels'}"

    @property
    def split(self) -> str:
        """The split that is compared: test where this run has it."""
        return "test" if ("", "test") in self.values or ("", "val") not in self.values else "val"

    def percent(self, floor: str = "", split: str | None = None) -> float | None:
        """Accuracy in per cent, rounded as a page has it, so that differences agree with what is read."""
        value = self.values.get((floor, split or self.split))
        return None if value is None else round(100 * value, 1)

    def gain(self, floor: str) -> float | None:
        """Points above a floor, on the split compared."""
        reached, level = self.percent(), self.percent(floor)
        return None if reached is None or level is None else round(reached - level, 1)


def rank_protocol(key: Protocol) -> tuple:
    """The place of a protocol in all tables: the classifier, then the probe with all labels, with few, then kNN."""
    kind, number = key
    return PROTOCOLS.index(kind), number is not None, -(number or 0)


def read_accuracies(run: Run) -> list[Accuracy]:
    """What the protocols measured of a run, in the order of all tables."""
    accuracies: dict[Protocol, Accuracy] = {}
    for metric in map(read_name, run.metrics):
        value = run.last(metric.name)
        if metric.in_protocol and value is not None:
            key = (metric.kind, metric.number)
            accuracy = accuracies.setdefault(key, Accuracy(*key))
            accuracy.values[metric.floor, metric.split] = value
    return [accuracies[key] for key in sorted(accuracies, key=rank_protocol)]


def compute_chance(run: Run) -> float | None:
    """Per cent right by guessing among equally frequent classes."""
    classes = run.provenance.get("num_classes") or len(run.provenance.get("class_names") or [])
    return 100 / classes if classes else None


def count_test_reads(run: Run) -> int:
    """How many times the test split was read for this run's own numbers."""
    metrics = [
        metric for metric in map(read_name, run.metrics) if metric.split == "test" and not metric.floor
    ]
    return len({step for metric in metrics for step in run.metrics[metric.name].step})


def read_ceilings(run: Run, ceiling: Run) -> dict[Protocol, float]:
    """Per cent that another run on the same data reached, by protocol, on the split compared."""
    if (data := run.provenance.get("data")) != (other := ceiling.provenance.get("data")):
        raise NoRunError(
            f"{ceiling.path} is no ceiling for {run.path}: it was trained on {other}, not on {data}"
        )
    if run.provenance.get("class_names") != ceiling.provenance.get("class_names"):
        raise NoRunError(f"{ceiling.path} is no ceiling for {run.path}: it tells other classes apart")
    reached = {accuracy.key: accuracy for accuracy in read_accuracies(ceiling)}
    levels = {a.key: reached[a.key].percent(split=a.split) for a in read_accuracies(run) if a.key in reached}
    return {key: level for key, level in levels.items() if level is not None}
