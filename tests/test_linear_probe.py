from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.measures.knn import score_by_neighbors
from callbacks.measures.linear_probe import draw_few_labels, fit_probe, score_with_few_labels
from callbacks.measures.scores import average_scores


@pytest.fixture(scope="module")
def digits():
    """Three of 64 pixels never change."""
    features, labels = load_digits(return_X_y=True)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def standardize_probe(probe, features):
    """The probe's parameters as of standardized features, the features, and their scaler; all float64."""
    scaler = StandardScaler().fit(features.double())
    mean, std = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
    weight = probe.weight.double()
    return (
        weight * std,
        probe.bias.double() + weight @ mean,
        torch.from_numpy(scaler.transform(features.double())),
    )


def penalized_loss(weight, bias, x, labels, c):
    return c * F.cross_entropy(x @ weight.T + bias, labels, reduction="sum") + weight.square().sum() / 2


@pytest.mark.parametrize("c", [0.01, 1.0, 10.0])
def test_a_probe_is_scikit_learns_logistic_regression(digits, c):
    features, labels = digits
    probe = fit_probe(features, labels, 10, c)
    weight, bias, x = standardize_probe(probe, features)
    theirs = LogisticRegression(C=c, tol=1e-7, max_iter=5000).fit(x, labels)
    torch.testing.assert_close(weight, torch.from_numpy(theirs.coef_), atol=5e-3, rtol=0)
    torch.testing.assert_close(bias, torch.from_numpy(theirs.intercept_), atol=5e-3, rtol=0)
    assert np.array_equal(probe.score_classes(features).argmax(1), theirs.predict(x))
    best = penalized_loss(*map(torch.from_numpy, (theirs.coef_, theirs.intercept_)), x, labels, c)
    assert penalized_loss(weight, bias, x, labels, c).item() == pytest.approx(best.item(), rel=1e-5)


def test_large_problems_are_solved_as_well_in_float32(digits):
    features, labels = digits[0].repeat(9, 1), digits[1].repeat(9)  # over a million numbers
    large, small = fit_probe(features, labels, 10), fit_probe(*digits, 10, c=9.0)
    values = [
        penalized_loss(*standardize_probe(probe, features), labels, c=1.0).item() for probe in (large, small)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("classes", [[3, 8], [1, 7]])
@pytest.mark.parametrize("c", [0.1, 1.0])
def test_a_probe_of_two_classes_is_scikit_learns_too(digits, classes, c):
    rows = torch.isin(digits[1], torch.tensor(classes)).nonzero().flatten()[::5]  # few: the penalty matters
    features, labels = digits[0][rows], (digits[1][rows] == classes[1]).long()
    for places in ([0, 1], [0, 2]):  # as the only classes, and as those of three that have examples
        probe = fit_probe(features, torch.tensor(places)[labels], places[1] + 1, c)
        scaler = StandardScaler().fit(features.double())
        theirs = LogisticRegression(C=c, tol=1e-9, max_iter=5000).fit(
            scaler.transform(features.double()), labels
        )
        ours = probe.score_classes(features).double().softmax(1)[:, places]
        expected = theirs.predict_proba(scaler.transform(features.double()))
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_features_that_are_not_finite_are_refused_in_one_line(digits):
    features = digits[0].clone()
    features[7, 3] = float("inf")
    for refuse in (
        lambda: fit_probe(features, digits[1], 10),
        lambda: score_by_neighbors(features, *digits, 10),
        lambda: score_by_neighbors(digits[0], features, digits[1], 10),
    ):
        with pytest.raises(ValueError, match="needs features that are finite numbers"):
            refuse()


@pytest.mark.parametrize("n", [40, 1797])  # fewer examples than dimensions, and more
def test_the_gradient_vanishes_at_the_solution(digits, n):
    features, labels = digits[0][:n], digits[1][:n]
    weight, bias, x = standardize_probe(fit_probe(features, labels, 10), features)
    weight.requires_grad_(), bias.requires_grad_()
    penalized_loss(weight, bias, x, labels, c=1.0).backward()
    assert weight.grad.abs().max() < 1e-5 * n and bias.grad.abs().max() < 1e-5 * n


def test_a_dimension_that_never_changes_gets_no_weight(digits):
    features, labels = digits
    constant = torch.full((len(features), 1), 0.1)
    with_constant = fit_probe(torch.cat([features, constant], 1), labels, 10)
    assert with_constant.weight[:, -1].abs().max() < 1e-6
    torch.testing.assert_close(
        with_constant.weight[:, :-1], fit_probe(features, labels, 10).weight, atol=1e-4, rtol=0
    )


def test_units_of_a_dimension_do_not_matter(digits):
    features, labels = digits
    units = torch.logspace(-3, 3, 64)
    moved = fit_probe(units * features + 7, labels, 10).score_classes(units * features + 7)
    torch.testing.assert_close(
        moved, fit_probe(features, labels, 10).score_classes(features), atol=2e-2, rtol=0
    )


def test_a_class_without_examples_is_never_predicted(digits):
    features, labels = digits
    assert (fit_probe(features, labels, 11).score_classes(features).argmax(1) < 10).all()


def test_a_fit_repeats_in_any_mode_and_draws_no_random_numbers(digits):
    features, labels = digits
    before, state = fit_probe(features, labels, 10), torch.get_rng_state()
    with torch.inference_mode():
        inside = fit_probe(features.clone(), labels.clone(), 10)
    with_gradient = fit_probe(features.clone().requires_grad_(), labels, 10)
    list(score_with_few_labels(features, labels, features, 10, draws=1))
    for probe in (inside, with_gradient):
        assert torch.equal(probe.weight, before.weight) and torch.equal(probe.bias, before.bias)
        assert not probe.weight.requires_grad and not probe.weight.is_inference()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fit_that_did_not_converge_warns(digits):
    with pytest.warns(UserWarning, match="stopped at a gradient of"):
        fit_probe(*digits, 10, max_iter=3)


@pytest.mark.parametrize("labels", [[], [-1, 0], [0, 2]])
def test_a_probe_refuses_labels_that_are_no_classes(labels):
    with pytest.raises(ValueError, match="a probe needs"):
        fit_probe(torch.ones(len(labels), 3), torch.tensor(labels, dtype=torch.long), 2)


def test_few_labels_are_balanced_distinct_and_reproducible(digits):
    labels = torch.cat([digits[1], torch.tensor([10, 10])])  # a class of two
    rows = draw_few_labels(labels, 11, per_class=5, draw=3)
    assert labels[rows].bincount().tolist() == [5] * 10 + [2]
    assert len(rows.unique()) == len(rows)
    assert torch.equal(rows, draw_few_labels(labels, 11, per_class=5, draw=3))
    assert not torch.equal(rows, draw_few_labels(labels, 11, per_class=5, draw=4))


def test_few_label_accuracy_is_the_mean_over_draws(digits):
    features, labels = digits
    accuracies = []
    for draw in range(3):
        rows = draw_few_labels(labels, 10, per_class=2, draw=draw)
        probe = fit_probe(features[rows], labels[rows], 10, c=0.5)
        accuracies.append((probe.score_classes(features).argmax(1) == labels).float().mean().item())
    scores = score_with_few_labels(features, labels, features, 10, per_class=2, draws=3, c=0.5)
    mean = average_scores(scores, 3, labels, uneven=False)["top1"]
    assert mean == pytest.approx(np.mean(accuracies))
    assert 0.5 < mean < 0.95


def test_the_online_probe_takes_adams_steps_on_labeled_rows():
    generator = torch.Generator().manual_seed(0)
    online = OnlineProbe(lr=0.05)
    module = SimpleNamespace(
        encoder=SimpleNamespace(dim=6), device=torch.device("cpu"), all_gather=lambda rows: rows
    )
    online.setup(SimpleNamespace(datamodule=SimpleNamespace(num_classes=3)), module, "fit")
    online.on_fit_start(None, module)
    weight, bias = torch.zeros(3, 6, requires_grad=True), torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], 0.05)
    right = labeled = 0
    for step in range(5):
        features = torch.randn(20, 6, generator=generator).requires_grad_()
        labels = torch.randint(-1, 3, (20,), generator=generator)
        online.on_train_batch_end(None, module, {"features": features}, SimpleNamespace(labels=labels), step)
        rows = (features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()
        scores = rows.detach() @ weight.T + bias
        right += sum(int(scores[i].argmax()) == labels[i] for i in range(20) if labels[i] >= 0)
        labeled += sum(label >= 0 for label in labels.tolist())
        adam.zero_grad()
        F.cross_entropy(scores[labels >= 0], labels[labels >= 0]).backward()
        adam.step()
        assert features.grad is None
    linear = online.probe[1]
    torch.testing.assert_close((linear.weight.data, linear.bias.data), (weight.data, bias.data))
    assert online.counts.tolist() == [right, labeled]
