"""The schema of metrics: every family is read, and nobody else knows names by pattern."""

import csv
import re

import pytest

from common.metrics import FAMILIES, FLOORS, PROTOCOLS, TOP1, find_family, read_name, select_metrics
from common.splits import SPLITS, name_split
from common.text import plural
from tests.test_house import ROOT

# name: kind, title, floor, split, number, part
NAMES = {
    "val/top1": ("head", "Classifier", "", "val", None, ""),
    "test/probe_top1": ("probe", "Linear probe", "", "test", None, ""),
    "untrained/test/probe5_top1": ("probe", "Linear probe, 5 labels a class", "untrained", "test", 5, ""),
    "pixels/val/probe1_top1": ("probe", "Linear probe, 1 label a class", "pixels", "val", 1, ""),
    "characters/val/knn20_top1": ("knn", "kNN, k 20", "characters", "val", 20, ""),
    "val/knn_top1": ("knn", "kNN", "", "val", None, ""),
    "val/balanced": ("head_balanced", "Classifier, balanced accuracy", "", "val", None, ""),
    "test/f1": ("head_f1", "Classifier, macro F1", "", "test", None, ""),
    "test/auc": ("head_auc", "Classifier, AUC", "", "test", None, ""),
    "test/probe_balanced": ("probe_balanced", "Linear probe, balanced accuracy", "", "test", None, ""),
    "val/probe_f1": ("probe_f1", "Linear probe, macro F1", "", "val", None, ""),
    "before/test/probe5_auc": ("probe_auc", "Linear probe, AUC, 5 labels a class", "before", "test", 5, ""),
    "test/knn20_balanced": ("knn_balanced", "kNN, balanced accuracy, k 20", "", "test", 20, ""),
    "pixels/test/knn20_f1": ("knn_f1", "kNN, macro F1, k 20", "pixels", "test", 20, ""),
    "test/knn20_auc": ("knn_auc", "kNN, AUC, k 20", "", "test", 20, ""),
    "test/majority_top1": ("majority", "Largest class", "", "test", None, ""),
    "train/online_probe_top1": ("online_probe", "Online probe", "", "train", None, ""),
    "val/bank_probe_top1": ("bank_probe", "Linear probe on the bank", "", "val", None, ""),
    "test/top1/some airline": ("group", "Classifier on some airline", "", "test", None, "some airline"),
    "val/rotation_top1": ("pretext", "Rotation accuracy", "", "val", None, "rotation"),
    "train/loss": ("loss", "Loss", "", "train", None, ""),
    "train/loss_step": ("batch_loss", "Loss of single batches", "", "train", None, ""),
    "train/class_loss": ("class_loss", "Loss of class tokens", "", "train", None, ""),
    "train/patch_loss": ("patch_loss", "Loss of masked patches", "", "train", None, ""),
    "train/koleo_loss": ("koleo_loss", "KoLeo term of the loss", "", "train", None, ""),
    "val/reconstruction": ("reconstruction", "Reconstruction error", "", "val", None, ""),
    "val/reconstruction_mse": ("reconstruction_mse", "Reconstruction MSE", "", "val", None, ""),
    "test/mse": ("mse", "Squared error of pixels", "", "test", None, ""),
    "train/kl": ("kl", "KL divergence", "", "train", None, ""),
    "val/sample_distance": ("sample_distance", "Distance of samples to images", "", "val", None, ""),
    "pixels/val/precision_at_10": ("precision", "Precision at 10", "pixels", "val", 10, ""),
    "val/cluster_accuracy": ("cluster_accuracy", "Cluster accuracy", "", "val", None, ""),
    "val/nmi": ("nmi", "NMI of clusters and classes", "", "val", None, ""),
    "val/ari": ("ari", "ARI of clusters and classes", "", "val", None, ""),
    "val/effective_rank": ("effective_rank", "Effective rank", "", "val", None, ""),
    "val/feature_std": ("feature_std", "Spread of features", "", "val", None, ""),
    "train/alignment": ("alignment", "Alignment of views", "", "train", None, ""),
    "train/uniformity": ("uniformity", "Uniformity of projections", "", "train", None, ""),
    "train/examples_per_s": ("examples_per_s", "Examples a second", "", "train", None, ""),
    "train/data_wait": ("data_wait", "Share of time waiting for data", "", "train", None, ""),
    "train/gradient_norm": ("gradient_norm", "Norm of the gradient", "", "train", None, ""),
    "train/invariance": ("invariance", "Squared difference of views", "", "train", None, ""),
    "train/variance_shortage": ("variance_shortage", "Shortage of variance", "", "train", None, ""),
    "train/covariance": ("covariance", "Covariance of dimensions", "", "train", None, ""),
    "train/prediction": ("prediction", "Prediction loss", "", "train", None, ""),
    "train/sigreg": ("sigreg", "Distance of projections to a Gaussian", "", "train", None, ""),
    "train/momentum": ("momentum", "Momentum of the teacher", "", "train", None, ""),
    "train/teacher_temperature": ("teacher_temperature", "Temperature of the teacher", "", "train", None, ""),
    "weight_decay": ("weight_decay", "Weight decay", "", "", None, ""),
    "lr": ("learning_rate", "Learning rate", "", "", None, ""),
    "lr-SGD": ("group_learning_rate", "Learning rate of SGD", "", "", None, "SGD"),
    "lr/pg1": ("group_learning_rate", "Learning rate of pg1", "", "", None, "pg1"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read(name):
    metric = read_name(name)
    fields = (metric.kind, metric.title, metric.floor, metric.split, metric.number, metric.part)
    assert fields == NAMES[name]


def test_every_family_is_tested_and_found_by_its_kind():
    assert {metric.family for metric in map(read_name, NAMES)} == set(FAMILIES)
    assert all(find_family(family.kind).kind == family.kind for family in FAMILIES)
    assert {*PROTOCOLS, *TOP1} <= {family.kind for family in FAMILIES}


@pytest.mark.parametrize("name, title, split, floor", [
    ("val/brand_new", "Brand new", "val", ""),
    ("val/probe", "Probe", "val", ""),  # the name of a kind
    ("untrained/val/brand_new", "Brand new", "val", "untrained"),
    ("test/a/{b}", "A/{b}", "test", ""),
    ("nobody/knows", "Nobody/knows", "", ""),
    ("val", "Val", "", ""),
    ("", "", "", ""),
])  # fmt: skip
def test_of_an_unknown_name_nothing_is_assumed(name, title, split, floor):
    metric = read_name(name)
    assert (metric.kind, metric.title, metric.split, metric.floor) == ("other", title, split, floor)
    assert metric.family.larger_is_better is None and not metric.family.is_percentage
    assert not metric.is_top1 and not metric.in_protocol and metric.head == ""


@pytest.mark.parametrize("name, larger_is_better, is_percentage", [
    ("val/top1", True, True),
    ("val/precision_at_5", True, True),
    ("val/nmi", True, False),
    ("test/loss", False, False),
    ("val/effective_rank", None, False),
])  # fmt: skip
def test_a_family_says_what_is_better_and_what_is_a_percentage(name, larger_is_better, is_percentage):
    family = read_name(name).family
    assert (family.larger_is_better, family.is_percentage) == (larger_is_better, is_percentage)


def test_tables_show_protocols_and_what_is_measured_at_the_end():
    names = [*NAMES, "test/brand_new", "val/brand_new", "train/top1", "untrained/test/brand_new"]
    in_protocol = [name for name in names if read_name(name).in_protocol]
    in_tables = [name for name in names if read_name(name).in_tables]
    assert in_protocol == [
        *("val/top1", "test/probe_top1", "untrained/test/probe5_top1", "pixels/val/probe1_top1"),
        *("characters/val/knn20_top1", "val/knn_top1"),
        *("val/balanced", "test/f1", "test/auc", "test/probe_balanced", "val/probe_f1"),
        *("before/test/probe5_auc", "test/knn20_balanced", "pixels/test/knn20_f1", "test/knn20_auc"),
    ]
    assert in_tables == [
        *("test/top1/some airline", "val/reconstruction_mse", "test/mse", "val/sample_distance"),
        *("val/cluster_accuracy", "val/nmi", "val/ari", "test/brand_new"),
    ]


def test_an_accuracy_says_whose_it_is():
    names = ("val/top1", "val/knn20_top1", "train/online_probe_top1", "val/rotation_top1", "test/top1/vader")
    assert [read_name(name).head for name in names] == ["", "knn20", "online probe", "rotation", ""]


def test_metrics_are_selected_by_split_and_kind_without_floors():
    names = ["val/knn5_top1", "val/bank_probe_top1", "untrained/val/knn5_top1", "test/knn5_top1", "val/top1"]
    chosen = [metric.name for metric in select_metrics(names, "val", "bank_probe", "knn")]
    assert chosen == ["val/knn5_top1", "val/bank_probe_top1"]


def test_every_name_in_the_archived_runs_is_known():
    names = set()
    for file in (ROOT / "results").glob("*/*/metrics.csv"):
        with open(file, newline="") as lines:
            names |= set(next(csv.reader(lines))) - {"epoch", "step"}
    unknown = {name for name in names if read_name(name).family not in FAMILIES}
    assert len(names) > 40 and all(name.endswith("_step") for name in unknown)  # single batches of a measure


def test_nobody_else_knows_names_by_pattern():
    name = r"(top1|knn|probe|\bloss|\blr\b|test/|val/)"
    pattern = re.compile(
        rf"\bre\.\w+\([^\n]*{name}|(starts|ends)with\(.*{name}|[\"']top1[\"'] (not )?in |(FLOORS|SPLITS|TOP1) = "
    )
    for room in ("reports", "callbacks", "launch"):
        for file in sorted((ROOT / room).rglob("*.py")):
            assert not pattern.search(file.read_text(encoding="utf-8")), file


def test_floors_and_splits_have_names_for_sentences():
    assert FLOORS["untrained"] == "the untrained encoder" and FLOORS["pixels"] == "raw pixels"
    assert [name_split(split) for split in (*SPLITS, None)] == [*SPLITS.values(), "validation"]
    assert [plural(n, "label") for n in (0, 1, 2000)] == ["0 labels", "1 label", "2000 labels"]
