"""Hardest and easiest examples: those that sorting finds, of the loss that the caption says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from callbacks.evaluation.class_scores import find_linear_head
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.figures.hardest import Hardest, draw_extremes, find_largest, write_caption
from ssl_modules.rotation import rotate_four_ways
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    read_last_metrics,
    write_numbers,
)


def stored_view(trainer, split):
    data = trainer.datamodule
    batch = data.read_batch(split, np.arange(len(data.datasets[split])), torch.device("cpu"))
    return batch.views[0], batch.labels


def assert_extremes(facts, losses):
    """The facts are of the examples that sorting by the losses (N,) finds."""
    order = sorted(range(len(losses)), key=lambda i: float(losses[i]))
    for kind, rows in {"easiest": order, "hardest": order[::-1]}.items():
        values = [float(losses[entry["index"]]) for entry in facts[kind]]
        np.testing.assert_allclose(
            values, [float(losses[i]) for i in rows[: len(values)]], rtol=1e-3, atol=1e-6
        )
        np.testing.assert_allclose([entry["loss"] for entry in facts[kind]], values, rtol=1e-3, atol=1e-6)
        assert len({entry["index"] for entry in facts[kind]}) == len(values)


def test_the_largest_are_those_of_sorting_without_unknown_ones():
    losses = torch.rand(50, generator=torch.Generator().manual_seed(0))
    losses[[3, 30]] = torch.nan
    labeled = [i for i in range(50) if i not in (3, 30)]
    assert find_largest(losses, 8).tolist() == sorted(labeled, key=lambda i: -float(losses[i]))[:8]
    assert find_largest(-losses, 8).tolist() == sorted(labeled, key=lambda i: float(losses[i]))[:8]
    assert len(find_largest(losses, 100)) == 48


def test_rotnets_loss_is_of_turns_on_both_splits(data_dir, tmp_path):
    plain = fit_case(find_case("RotNet"), data_dir, tmp_path / "plain")
    trainer = fit_case(
        find_case("RotNet"), data_dir, tmp_path, OnlineProbe(), Hardest(count=5, training=True)
    )
    module = trainer.lightning_module.eval()
    for split, name in {"val": "hardest", "train": "hardest_training"}.items():
        facts, _ = read_figure(tmp_path, name)
        assert facts["loss"] == "RotNet's loss" and facts["head"] == "online probe"
        view, labels = stored_view(trainer, split)
        with torch.no_grad():
            copies, targets = rotate_four_ways(view)
            logits = torch.cat([module.turn_head(module.encode(part)) for part in copies.chunk(4)])
            losses = F.cross_entropy(logits, targets, reduction="none").view(4, -1).mean(0)
            predicted = find_linear_head(trainer, module)[0].score_classes(module.encode(view)).argmax(1)
        assert_extremes(facts, losses)
        for entry in facts["hardest"] + facts["easiest"]:
            assert entry["label"] == labels[entry["index"]] and entry["pred"] == predicted[entry["index"]]
    assert torch.equal(trainer.callback_metrics["val/loss"], plain.callback_metrics["val/loss"])
    assert read_last_metrics(tmp_path)["val/loss"] == pytest.approx(float(plain.callback_metrics["val/loss"]))


def test_without_losses_it_is_the_cross_entropy_of_a_probe(data_dir, tmp_path):
    trainer = fit_case(find_case("SimCLR"), data_dir, tmp_path, Hardest(count=4, training=True))
    module = trainer.lightning_module.eval()
    head, _ = find_linear_head(trainer, module)
    for split, name in {"val": "hardest", "train": "hardest_training"}.items():
        facts, _ = read_figure(tmp_path, name)
        assert facts["loss"] == "cross-entropy of the linear probe" and len(facts["hardest"]) == 4
        view, labels = stored_view(trainer, split)
        with torch.no_grad():
            losses = F.cross_entropy(head.score_classes(module.encode(view)), labels, reduction="none")
        assert_extremes(facts, losses)


@pytest.mark.parametrize("method", ["Autoencoder", "VAE"])
def test_a_generative_models_own_loss(method, data_dir, tmp_path):
    fit_case(find_case(method), data_dir, tmp_path, Hardest(count=4))
    facts, _ = read_figure(tmp_path, "hardest")
    assert facts["loss"] == f"{method}'s loss" and facts["hardest"][0]["loss"] > facts["easiest"][0]["loss"]
    assert [entry["loss"] for entry in facts["hardest"]] == sorted(
        (entry["loss"] for entry in facts["hardest"]), reverse=True
    )


def test_a_frozen_classifier_keeps_training_and_validation_apart(data_dir, tmp_path):
    """Its features of validation images are kept; a training example's are others."""
    shared = {"frozen": True}
    trainer = fit_case(
        find_case("Classifier"), data_dir, tmp_path, Hardest(count=4, training=True), shared=shared
    )
    facts, _ = read_figure(tmp_path, "hardest_training")
    view, labels = stored_view(trainer, "train")
    module = trainer.lightning_module.eval()
    with torch.no_grad():
        assert_extremes(facts, F.cross_entropy(module.head(module.encode(view)), labels, reduction="none"))


def test_texts_are_shown_as_texts(data_dir, tmp_path):
    trainer = fit_case(find_case("Classifier", 1), data_dir, tmp_path, Hardest(count=3))
    facts, _ = read_figure(tmp_path, "hardest")
    data, first = trainer.datamodule, facts["hardest"][0]
    view = data.read_batch("val", np.array([first["index"]]), torch.device("cpu")).views[0]
    assert data.display(view) == [first["text"]]
    assert len(facts["hardest"]) == 3 and facts["classes"] == data.class_names
    figure = draw_extremes(
        {k: facts[k] for k in ("hardest", "easiest")},
        {"hardest": ["a", "b", "$c$ & $"], "easiest": list("def")},
        ["n", "p"],
    )
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    figure.canvas.draw()
    assert {*"abdef", "$c$ & $"} <= set(texts)


def test_data_without_classes_have_losses_or_no_picture(data_dir, tmp_path):
    fit_case(find_case("Autoencoder"), write_numbers(tmp_path), tmp_path, Hardest(training=True))
    for name in ("hardest", "hardest_training"):
        facts, _ = read_figure(tmp_path, name)
        assert set(facts["hardest"][0]) == {"index", "loss"} and facts["head"] is None
    fit_case(find_case("SimCLR"), tmp_path, tmp_path / "none", callback := Hardest())
    assert callback.skip_reason and not (tmp_path / "none" / "figures").exists()


def test_only_a_mistake_is_in_red():
    names = ["cat", "dog"]
    right, wrong, unknown = ({"label": label, "pred": 1, "prob": 0.9, "loss": 2.0} for label in (1, 0, -1))
    assert [text for text, _ in write_caption(right, names)] == ["dog", "loss 2.00"]
    assert [text for text, _ in write_caption(wrong, names)] == ["cat", "✗ dog", "loss 2.00"]
    assert [text for text, _ in write_caption(unknown, names)] == ["?", "loss 2.00"]
    assert [text for text, _ in write_caption({"loss": 0.00317}, None)] == ["loss 0.0032"]
    assert (
        write_caption({"loss": 0.05}, None)[0][0] == "loss 0.050"
        and write_caption({"loss": 0}, None)[0][0] == "loss below 0.0001"
    )
