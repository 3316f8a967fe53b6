"""The accuracies of tables, by protocol: of the final encoder, of the untrained one and of the raw input."""

from dataclasses import dataclass, field

from common.metrics import PROTOCOL_VERSION, PROTOCOLS, SCORES, find_family, read_name
from reports.run import NoRunError, Run

Protocol = tuple[str, int | None]  # kind of metric, and labels a class or number of neighbors


@dataclass
class Accuracy:
    """What one protocol measured: `kind` is probe, knn or, for the run's own classifier, head.

    Where classes are uneven, other scores of the same predictions have kinds of their own, such as `probe_balanced`.
    `values`: (floor, split) -> fraction; the floor is "" for the run itself, and "majority" for the largest class.
    """

    kind: str
    number: int | None
    values: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def key(self) -> Protocol:
        return self.kind, self.number

    @property
    def judge(self) -> str:
        """Who predicts: `probe`, `knn` or `head`."""
        return self.kind.partition("_")[0]

    @property
    def score(self) -> str:
        """What is measured of the predictions: '' for top-1, `balanced`, `f1` or `auc`."""
        return self.kind.partition("_")[2]

    @property
    def title(self) -> str:
        if self.judge == "knn":
            return "Nearest neighbors" + (f", {SCORES[self.score]}" if self.score else "")
        return find_family(self.kind).format_title(self.number)

    @property
    def protocol(self) -> str:
        score = SCORES.get(self.score, "top-1")
        if self.judge == "head":
            return f"{score}; the head that was trained, at the last epoch"
        if self.judge == "knn":
            return f"{score}; vote of the {self.number} nearest training examples" if self.number else score
        return (
            f"{score}; frozen features, {'mean of several draws' if self.number else 'all training labels'}"
        )

    @property
    def start(self) -> str:
        """The floor that training started from: other weights where it did so, else the untrained encoder."""
        return "before" if ("before", self.split) in self.values else "untrained"

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
    judge, _, score = kind.partition("_")
    return PROTOCOLS.index(judge), number is not None, -(number or 0), ["", *SCORES].index(score)


def read_accuracies(run: Run) -> list[Accuracy]:
    """What the protocols measured of a run, in the order of all tables."""
    accuracies: dict[Protocol, Accuracy] = {}
    majority: dict[tuple[str, str], float] = {}
    for metric in map(read_name, run.metrics):
        value = run.last(metric.name)
        if metric.in_protocol and value is not None:
            key = (metric.kind, metric.number)
            accuracy = accuracies.setdefault(key, Accuracy(*key))
            accuracy.values[metric.floor, metric.split] = value
        elif metric.kind == "majority" and value is not None:
            majority["majority", metric.split] = value
    for accuracy in accuracies.values():
        accuracy.values |= {} if accuracy.score else majority
    return [accuracies[key] for key in sorted(accuracies, key=rank_protocol)]


def compute_chance(run: Run, accuracy: Accuracy) -> float | None:
    """Per cent right by guessing; None where it is not known, or where the largest class says more."""
    if accuracy.score == "auc":
        return 50.0
    if accuracy.score == "f1" or accuracy.percent("majority") is not None:
        return None
    classes = run.provenance.get("num_classes") or len(run.provenance.get("class_names") or [])
    if accuracy.score:  # a mean over the classes that the split has examples of
        counts = (run.provenance.get("class_counts") or {}).get(accuracy.split, [])
        classes = len([count for count in counts if count]) or classes
    return 100 / classes if classes else None


def has_doubled_c(run: Run) -> bool:
    """Whether the run's probes had C = 2: of two classes, before the protocol's version was recorded."""
    is_old = run.provenance.get("protocol", 1) < PROTOCOL_VERSION
    return (
        is_old
        and run.provenance.get("num_classes") == 2
        and any(a.judge == "probe" for a in read_accuracies(run))
    )


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
