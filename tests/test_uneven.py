"""Uneven classes: the majority, and scores in which every class counts, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from callbacks.evaluation.features import Features
from callbacks.evaluation.protocol import Protocol
from callbacks.measures.scores import score_uneven, top1_accuracy
from common.class_counts import count_classes, is_uneven, majority_share
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from launch.class_counts import report_class_counts
from reports.checks import check_run
from reports.compare.page import render_comparison
from reports.report import render_report
from reports.results import render_results
from reports.run import load_run
from reports.summary import summarize_run
from tests.draws import draw_normal
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.report_runs import CONFIG, FINAL, PROVENANCE, USUAL, final_row
from tests.test_report import visible_text
from tests.uneven import write_uneven

COUNTS = {"train": [90, 30], "val": [30, 10], "test": [60, 20]}
CASE = find_case("Classifier")


def run_protocol(folder, counts):
    """(protocol, data, method) after two epochs and the test."""
    write_uneven(folder / "data" / "uneven", counts)
    data = Arrays(
        "uneven", data_dir=folder / "data", batch_size=16, views=[Recipe()], mean=[CASE.mean], std=[CASE.std]
    )
    protocol, method = Protocol(k=5, draws=2), build(CASE, num_outputs=2)
    trainer = train(method, data, folder, callbacks=[Features(), protocol], max_epochs=2)
    trainer.test(method, data, verbose=False)
    return protocol, data, method


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return run_protocol(tmp_path_factory.mktemp("uneven"), COUNTS)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_are_scikit_learns(classes):
    scores, labels = draw_normal(200, classes), (torch.arange(200) ** 2 % 7 % classes)
    labels[labels == classes - 1] *= classes == 2  # of five classes, the last has no example
    predicted, numbers = scores.argmax(1), score_uneven(scores, labels)
    assert numbers["f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    recalls = [(predicted[labels == k] == k).float().mean() for k in labels.unique()]
    assert numbers["balanced"] == pytest.approx(float(np.mean(recalls)))
    if classes == 2:
        assert numbers["balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        assert numbers["auc"] == pytest.approx(roc_auc_score(labels, scores.double().softmax(1)[:, 1]))
    else:
        assert "auc" not in numbers
    assert top1_accuracy(scores, labels) == pytest.approx(float((predicted == labels).float().mean()))


def test_of_a_single_class_there_is_no_auc():
    assert score_uneven(draw_normal(9, 2), torch.zeros(9, dtype=torch.long)).keys() == {"balanced", "f1"}


@pytest.mark.parametrize("counts, uneven", [
    ([50, 50], False), ([55, 45], False), ([56, 44], True), ([76, 24], True), ([10] * 10, False),
    ([14] + [10] * 9, False), ([30] + [10] * 9, True), ([0, 0], False), ([7], False), ([], False),
])  # fmt: skip
def test_uneven_is_more_than_five_points_above_an_even_share(counts, uneven):
    assert is_uneven(counts) == uneven
    labels = np.repeat(np.arange(len(counts)), counts)
    if len(labels):
        dummy = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels)
        assert majority_share(counts) == pytest.approx(dummy.score(labels[:, None], labels))
        assert count_classes([-1, *labels.tolist()], len(counts)) == counts


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_protocol_measures_what_scikit_learn_does(measured, split):
    protocol, data, method = measured
    numbers = protocol.numbers
    assert numbers[f"{split}/majority_top1"] == 0.75

    def encode(name):
        batches = list(data.batches(name, method.device))
        features = [method.encoder(batch.views[0]).double() for batch in batches]
        return torch.cat(features).numpy(), torch.cat([batch.labels for batch in batches]).numpy()

    method.eval()
    with torch.no_grad():
        (x, y), bank = encode(split), encode("bank")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1, tol=1e-8, max_iter=5000)).fit(*bank)
    predicted, chances = probe.predict(x), probe.predict_proba(x)[:, 1]
    assert numbers[f"{split}/probe_top1"] == pytest.approx((predicted == y).mean())
    assert numbers[f"{split}/probe_balanced"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert numbers[f"{split}/probe_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert numbers[f"{split}/probe_auc"] == pytest.approx(roc_auc_score(y, chances), abs=0.01)
    with torch.no_grad():
        logits = method.head(torch.from_numpy(x).float())
    assert numbers[f"{split}/balanced"] == pytest.approx(balanced_accuracy_score(y, logits.argmax(1)))
    assert numbers[f"{split}/auc"] == pytest.approx(roc_auc_score(y, logits[:, 1] - logits[:, 0]))
    for floor in ("", "untrained/", "pixels/"):
        for measure in ("knn5", "probe", "probe5"):
            for score in ("top1", "balanced", "f1", "auc"):
                assert 0 <= numbers[f"{floor}{split}/{measure}_{score}"] <= 1
    table = protocol.format_table(split, ["", "untrained/", "pixels/"])
    assert "always naming the largest class" in table and "75.0" in table.splitlines()[-1]


def test_of_even_classes_nothing_is_added(tmp_path):
    protocol, _, _ = run_protocol(tmp_path, {split: [20, 20] for split in COUNTS})
    assert all(name.endswith("_top1") and "majority" not in name for name in protocol.numbers)
    lines = protocol.format_table("val", ["", "untrained/", "pixels/"]).splitlines()
    assert [line[:32].strip() for line in lines] == [
        *("val, top-1 %", "kNN, k 5", "linear probe, all labels", "linear probe, 5 labels a class"),
    ]


def test_a_class_without_a_validation_example_is_named(tmp_path, recwarn):
    write_uneven(tmp_path / "uneven", {"train": [40, 30, 20], "val": [20, 0, 5], "test": [9, 9, 9]})
    data = Arrays("uneven", data_dir=tmp_path, batch_size=16, views=[Recipe()])
    data.prepare_data(), data.setup("fit")
    report_class_counts(data)
    (warning,) = [str(w.message) for w in recwarn if "no validation example" in str(w.message)]
    assert warning.startswith("no validation example of spiral: ")


def uneven_row(**changes):
    """Galaxies whose probe is above its floor and below the largest class."""
    row = {**final_row(0.745, 0.70, 0.69), "test/majority_top1": 0.76}
    scores = {"balanced": (0.62, 0.55), "f1": (0.61, 0.54), "auc": (0.7, 0.6)}
    for score, (trained, floor) in scores.items():
        row |= {f"test/probe_{score}": trained, f"untrained/test/probe_{score}": floor}
    return row | changes


@pytest.fixture
def galaxies(make_run):
    provenance = PROVENANCE | {"num_classes": 2, "class_names": ["smooth", "spiral"], "protocol": 2}
    provenance["class_counts"] = {"train": [300, 100], "val": [30, 10], "test": [76, 24]}

    def write(name="galaxies", **changes):
        rows = [*USUAL, {"epoch": 7, "step": 79, **uneven_row(**changes)}]
        config = CONFIG | {"experiment": name}
        return load_run(make_run(rows, config, provenance, name=name))

    return write


@pytest.mark.parametrize("changes, answer", [
    ({}, "In part"),  # its balanced accuracy is above the floor, its accuracy below the largest class
    ({"test/probe_balanced": 0.55}, "In part"),
    ({"test/probe_balanced": 0.55, "untrained/test/probe_top1": 0.745}, "Hardly"),
    ({"test/probe_balanced": 0.5, "untrained/test/probe_top1": 0.745}, "No"),
    ({"test/probe_top1": 0.85}, "Yes"),
])  # fmt: skip
def test_a_probe_below_the_majority_is_not_better_than_random(galaxies, changes, answer):
    check = check_run(galaxies(**changes))[0]
    assert (check.question, check.answer) == ("Better than random?", answer)
    assert "Always naming the largest class is right on 76.0 %" in check.evidence
    assert "Balanced accuracy:" in check.evidence


def test_pages_tables_and_verdict_show_the_largest_class(galaxies):
    run = galaxies()
    sentence = summarize_run(run)[0]
    assert "on a par with always naming the largest class (76.0 %)" in sentence
    assert "balanced accuracy 62.0 % (+7.0 against untrained)" in sentence and "AUC 70.0 %" in sentence
    words = visible_text(render_report(run))
    assert "majority 76.0" in words and "Linear probe, balanced accuracy" in words
    assert "test 76 smooth, 24 spiral" in words
    text = render_results([run])
    assert "| majority | 76.0 | - |" in text and "Linear probe, balanced accuracy" in text
    assert "Classes are uneven where a row has a majority" in text
    pair = visible_text(render_comparison([run, galaxies("others", **{"test/probe_balanced": 0.7})]))
    assert "others leads by the linear probe, balanced accuracy" in pair and "Probe, macro F1" in pair


def test_of_even_classes_tables_and_pages_are_as_they_were(make_run):
    run = load_run(make_run([*USUAL, *FINAL]))
    text = render_results([run]) + visible_text(render_report(run)) + str(check_run(run))
    assert not any(word in text for word in ("majority", "largest class", "balanced", "uneven", "macro F1"))
    assert "chance 10" in text
