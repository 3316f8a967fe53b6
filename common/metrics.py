"""The schema of metrics: what the names in metrics.csv mean, for everything that reads them.

A name is `{floor/}{split}/{measure}`, such as `untrained/test/probe5_top1`; a learning rate has no floor and no split.
A new metric is one line of FAMILIES. A name that no family has is of kind `other`, of which nothing is assumed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from common.splits import SPLITS
from common.text import plural

# of how accuracies are measured, as provenance.json says; without one, the probe of two classes had C = 2
PROTOCOL_VERSION = 2
FLOORS = {  # what a trained encoder is compared with, and its name in a sentence
    "before": "the encoder that it started from",
    "untrained": "the untrained encoder",
    "pixels": "raw pixels",
    "characters": "raw characters",
}
# floors, and what no encoder is needed for: it is no prefix, but a metric of its own
LEVELS = FLOORS | {"majority": "always naming the largest class"}
# kinds of the accuracies in tables, in their order; and all that are top-1 accuracies of a whole split
PROTOCOLS = ("head", "probe", "knn")
SCORES = {
    "balanced": "balanced accuracy",
    "f1": "macro F1",
    "auc": "AUC",
}  # beside top-1 where classes are uneven
SCORE_KINDS = tuple(f"{kind}_{score}" for kind in PROTOCOLS for score in SCORES)
TOP1 = (*PROTOCOLS, "online_probe", "bank_probe", "pretext")
FIELDS = {"number": r"(?P<number>\d*)", "part": "(?P<part>.+)"}  # of patterns


@dataclass(frozen=True)
class Family:
    """Metrics that mean the same.

    Args:
        kind: how code asks for it.
        pattern: the name after the split; `{number}` stands for digits or nothing, `{part}` for any text.
        title: for people; may name `{part}`, and `{Part}` where it starts the title.
        detail: what follows the title where there is a number; may name `{number}` and `{labels}`.
        larger_is_better: None where neither direction is better.
        is_percentage: a fraction that is shown times 100.
        at_end: whether tables show its value on validation at the end of a run; those on test they always show.
    """

    kind: str
    pattern: str
    title: str
    larger_is_better: bool | None = None
    is_percentage: bool = False
    at_end: bool = False
    detail: str = ""

    def match(self, measure: str) -> re.Match | None:
        parts = re.split(r"\{(\w+)\}", self.pattern)
        parts[::2] = map(re.escape, parts[::2])
        parts[1::2] = [FIELDS[field] for field in parts[1::2]]
        return re.fullmatch("".join(parts), measure)

    def format_title(self, number: int | None = None, part: str = "") -> str:
        part = part.replace("_", " ")
        title = self.title.format(part=part, Part=part[:1].upper() + part[1:])
        if number is None:
            return title
        return title + self.detail.format(number=number, labels=plural(number, "label"))


ACCURACY = {"larger_is_better": True, "is_percentage": True}
HIGHER, LOWER = {"larger_is_better": True}, {"larger_is_better": False}

OF_PROTOCOL = (
    Family("head", "top1", "Classifier", **ACCURACY),
    Family("probe", "probe{number}_top1", "Linear probe", **ACCURACY, detail=", {labels} a class"),
    Family("knn", "knn{number}_top1", "kNN", **ACCURACY, detail=", k {number}"),
)


def make_score_family(family: Family, score: str) -> Family:
    """Turn the family of an accuracy into that of another score of the same predictions."""
    pattern, title = family.pattern.replace("top1", score), f"{family.title}, {SCORES[score]}"
    return replace(family, kind=f"{family.kind}_{score}", pattern=pattern, title=title)


FAMILIES = (  # the first that matches counts
    *OF_PROTOCOL,
    *(make_score_family(family, score) for family in OF_PROTOCOL for score in SCORES),
    Family("majority", "majority_top1", "Largest class", **ACCURACY),
    Family("online_probe", "online_probe_top1", "Online probe", **ACCURACY),
    Family("bank_probe", "bank_probe_top1", "Linear probe on the bank", **ACCURACY),
    Family("group", "top1/{part}", "Classifier on {part}", **ACCURACY),
    Family("pretext", "{part}_top1", "{Part} accuracy", **ACCURACY),
    Family("loss", "loss", "Loss", **LOWER),
    Family("batch_loss", "loss_step", "Loss of single batches", **LOWER),
    Family("class_loss", "class_loss", "Loss of class tokens", **LOWER),
    Family("patch_loss", "patch_loss", "Loss of masked patches", **LOWER),
    Family("koleo_loss", "koleo_loss", "KoLeo term of the loss", **LOWER),
    Family("reconstruction", "reconstruction", "Reconstruction error", **LOWER),
    Family("reconstruction_mse", "reconstruction_mse", "Reconstruction MSE", **LOWER, at_end=True),
    Family("mse", "mse", "Squared error of pixels", **LOWER),
    Family("kl", "kl", "KL divergence"),
    Family("invariance", "invariance", "Squared difference of views", **LOWER),
    Family("variance_shortage", "variance_shortage", "Shortage of variance", **LOWER),
    Family("covariance", "covariance", "Covariance of dimensions", **LOWER),
    Family("sample_distance", "sample_distance", "Distance of samples to images", **LOWER, at_end=True),
    Family("precision", "precision_at_{number}", "Precision", **ACCURACY, at_end=True, detail=" at {number}"),
    Family("cluster_accuracy", "cluster_accuracy", "Cluster accuracy", **ACCURACY, at_end=True),
    Family("nmi", "nmi", "NMI of clusters and classes", **HIGHER, at_end=True),
    Family("ari", "ari", "ARI of clusters and classes", **HIGHER, at_end=True),
    Family("effective_rank", "effective_rank", "Effective rank"),
    Family("feature_std", "feature_std", "Spread of features"),
    Family("alignment", "alignment", "Alignment of views", **LOWER),
    Family("uniformity", "uniformity", "Uniformity of projections", **LOWER),
    Family("examples_per_s", "examples_per_s", "Examples a second", **HIGHER),
    Family("data_wait", "data_wait", "Share of time waiting for data", **LOWER),
    Family("gradient_norm", "gradient_norm", "Norm of the gradient"),
    Family("prediction", "prediction", "Prediction loss", **LOWER),
    Family("sigreg", "sigreg", "Distance of projections to a Gaussian", **LOWER),
    Family("momentum", "momentum", "Momentum of the teacher"),
    Family("teacher_temperature", "teacher_temperature", "Temperature of the teacher"),
    Family("weight_decay", "weight_decay", "Weight decay"),
    Family("learning_rate", "lr", "Learning rate"),
    Family("group_learning_rate", "lr-{part}", "Learning rate of {part}"),
    Family("group_learning_rate", "lr/{part}", "Learning rate of {part}"),
)


UNKNOWN = Family("other", "{part}", "{Part}")


@dataclass(frozen=True)
class Metric:
    """What a name says; `floor`, `split` and `part` are '' and `number` is None where it has none."""

    name: str
    family: Family
    floor: str
    split: str
    number: int | None = None
    part: str = ""

    @property
    def kind(self) -> str:
        return self.family.kind

    @property
    def title(self) -> str:
        """For people, without floor and split."""
        return self.family.format_title(self.number, self.part)

    @property
    def is_top1(self) -> bool:
        return self.kind in TOP1

    @property
    def in_protocol(self) -> bool:
        """Whether it is an accuracy or another score of the fixed protocol: of a run, or of a floor."""
        return self.kind in (*PROTOCOLS, *SCORE_KINDS) and self.split in ("val", "test")

    @property
    def in_tables(self) -> bool:
        """Whether tables show its last value beside the protocol's accuracies."""
        at_end = self.split == "test" or (self.split == "val" and self.family.at_end)
        return at_end and not self.floor and not self.in_protocol and self.kind != "majority"

    @property
    def head(self) -> str:
        """Whose top-1 accuracy it is: '' for the module's own classifier, 'online probe', 'knn20'."""
        measure = self.name.rpartition("/")[2]
        return measure.removesuffix("top1").replace("_", " ").strip() if self.is_top1 else ""


@cache
def read_name(name: str) -> Metric:
    """The meaning of a metric's name."""
    floor, split, measure = "", "", name
    if measure.partition("/")[0] in FLOORS:
        floor, _, measure = measure.partition("/")
    if measure.partition("/")[0] in SPLITS and "/" in measure:
        split, _, measure = measure.partition("/")
    for family in FAMILIES:
        if fields := family.match(measure):
            groups = fields.groupdict()
            number = int(groups["number"]) if groups.get("number") else None
            return Metric(name, family, floor, split, number, groups.get("part") or "")
    return Metric(name, UNKNOWN, floor, split, None, measure)


def find_family(kind: str) -> Family:
    return next(family for family in FAMILIES if family.kind == kind)


def select_metrics(names: Iterable[str], split: str, *kinds: str) -> Iterator[Metric]:
    """Those of some kinds on a split, in the order of `names`; floors are left out."""
    for metric in map(read_name, names):
        if metric.kind in kinds and metric.split == split and not metric.floor:
            yield metric
