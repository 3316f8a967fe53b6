"""Losses of labels: their equations, what is unknown, and a step of the classifier that takes their mean."""

import math

import pytest
import torch

from common.batch import Batch, BatchKey
from ssl_modules.classifier import Classifier
from ssl_modules.losses.supervised import label_losses
from tests.methods import METHODS, build

CASE = next(case for case in METHODS if case.method is Classifier)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_is_its_equation_with_labels_smoothed(smoothing):
    logits, labels = (
        torch.randn(6, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 3, -1, 1, 1, -1]),
    )
    losses, labeled = label_losses(logits, labels, "class", smoothing)
    for i, label in enumerate(labels.tolist()):
        p = [math.exp(z) for z in logits[i].tolist()]
        p = [x / sum(p) for x in p]
        targets = [smoothing / 4 + (1 - smoothing) * (k == label) for k in range(4)]
        expected = -sum(t * math.log(x) for t, x in zip(targets, p, strict=True)) if label >= 0 else 0
        assert losses[i].item() == pytest.approx(expected, abs=1e-5) and labeled[i] == (label >= 0)
    assert label_losses(torch.zeros(1, 4), torch.tensor([2]), "class", smoothing)[0].item() == pytest.approx(
        math.log(4)
    )


@pytest.mark.parametrize("target", ["regression", "fractions"])
def test_losses_of_numbers_are_their_equations_and_skip_unknowns(target):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 3, generator=generator), torch.rand(5, 3, generator=generator)
    labels[0, 1] = labels[2] = math.nan
    labels[4] = torch.tensor([0.0, 1.0, 0.5])
    losses, labeled = label_losses(logits.requires_grad_(), labels, target)
    for i in range(5):
        for j in range(3):
            z, y = logits[i, j].item(), labels[i, j].item()
            p = 1 / (1 + math.exp(-z))
            entropy = -y * math.log(p) - (1 - y) * math.log(1 - p)
            expected = (z - y) ** 2 if target == "regression" else entropy
            assert losses[i, j].item() == pytest.approx(0 if math.isnan(y) else expected, abs=1e-5)
            assert labeled[i, j] == (not math.isnan(y))
    losses.sum().backward()
    assert logits.grad.isfinite().all() and (logits.grad[~labeled] == 0).all()


def step(module, labels, views=None):
    """The training step on random images."""
    if views is None:
        views = torch.rand(len(labels), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    key = BatchKey.single(7, len(labels))
    return module.training_step(Batch([views], labels, torch.arange(len(labels)), key), 0)


@pytest.mark.parametrize("target", ["class", "regression", "fractions"])
def test_a_steps_loss_is_the_mean_over_known_labels(target):
    module = build(CASE, "group", target=target)
    labels = torch.tensor([3, -1, 0, 2, -1, -1])
    if target != "class":
        labels = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
        labels[1], labels[3, :2] = math.nan, math.nan
    out = step(module, labels)
    losses, labeled = label_losses(out["logits"], labels, target)
    torch.testing.assert_close(out["loss"].detach(), losses[labeled].mean())
    for i in range(6):
        expected = losses[i][labeled[i]].mean() if labeled[i].any() else torch.tensor(math.nan)
        torch.testing.assert_close(out["losses"][i], expected, equal_nan=True)
    assert out["count"] == labeled.sum()


def test_unknown_labels_change_nothing_and_are_not_counted():
    labels = torch.tensor([3, 1, 0, 2])
    module = build(CASE, "group")
    some, none = step(module, torch.tensor([3, -1, 0, -1])), step(module, torch.full((4,), -1))
    none["loss"].backward()
    assert none["loss"] == 0 and module.head.weight.grad.abs().sum() == 0
    right = some["logits"].argmax(1) == labels
    torch.testing.assert_close(some["metrics"]["top1"], right[[0, 2]].float().mean())
    assert (some["count"], none["count"]) == (2, 0)


def test_processes_with_unequally_many_labels_have_the_same_gradient():
    labels, module = (
        torch.tensor([3, -1, 0, -1, -1, 2, 1, 1]),
        build(CASE, "group"),
    )
    views = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradient(rows: slice) -> torch.Tensor:
        module.zero_grad()
        step(module, labels[rows], views[rows])["loss"].backward()
        return torch.cat([p.grad.flatten() for p in module.parameters()])

    whole = gradient(slice(None))
    module.gather = lambda count: torch.tensor([2.0, 3.0])  # what each of two processes knows
    torch.testing.assert_close((gradient(slice(4)) + gradient(slice(4, 8))) / 2, whole)


def test_head_and_loss_are_float32_under_autocast():
    module = build(CASE).eval()
    labels = torch.arange(12) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = step(module, labels)
    assert out["loss"].dtype == torch.float32
    torch.testing.assert_close(out["logits"], module.head(out["features"]).detach(), atol=0, rtol=0)
