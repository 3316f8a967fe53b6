"""The terms of VICReg."""

import math

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpointing.checkpoints import Checkpoints
from ssl_modules.losses.vicreg import covariance_penalty, invariance, variance_shortage
from ssl_modules.vicreg import VICReg
from tests.losses import assert_same_gradients, draw_normal, make_pair
from tests.methods import Case, build, train
from tests.test_methods import tiny


def vicreg(z1, z2, weights=(25.0, 25.0, 1.0)):
    terms = (
        invariance(z1, z2),
        variance_shortage(z1) + variance_shortage(z2),
        covariance_penalty(z1) + covariance_penalty(z2),
    )
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))


def vicreg_in_loops(z1, z2):
    """Algorithm 1 of the paper, number by number, in float64."""
    images, dim = z1.shape
    loss = 25 * sum((a - b) ** 2 for a, b in zip(z1.flatten(), z2.flatten(), strict=True)) / (images * dim)
    for z in (z1, z2):
        means = [sum(z[n, i] for n in range(images)) / images for i in range(dim)]

        def covariance(i, j, z=z, means=means):
            return sum((z[n, i] - means[i]) * (z[n, j] - means[j]) for n in range(images)) / (images - 1)

        for i in range(dim):
            deviation = (covariance(i, i) + 1e-4) ** 0.5
            loss = loss + 25 * torch.clamp(1 - deviation, min=0) / dim
            loss = loss + sum(covariance(i, j) ** 2 for j in range(dim) if j != i) / dim
    return loss


@pytest.mark.parametrize("images, dim", [(2, 3), (7, 4)])
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_vicreg_is_the_algorithm_of_the_paper(images, dim, scale):
    assert_same_gradients(vicreg, vicreg_in_loops, *(scale * z for z in make_pair(images, dim)))


def test_vicreg_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    halved = (25.0, 12.5, 1.0)  # lightly halves the variance term, as the authors' code does
    ours = lambda z1, z2: vicreg(0.5 * z1, 0.5 * z2, halved)  # noqa: E731
    theirs = lightly.VICRegLoss()
    assert_same_gradients(ours, lambda z1, z2: theirs(0.5 * z1, 0.5 * z2), *make_pair(16))


def test_known_values():
    z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert invariance(z, z) == 0 and invariance(z, -z) == 4
    assert variance_shortage(z) == 0
    assert variance_shortage(torch.zeros(5, 3)).item() == pytest.approx(0.99)
    assert covariance_penalty(z) == pytest.approx(4)  # both covariances are 2, squared, by two dimensions
    assert covariance_penalty(torch.eye(2)[[0, 0, 1, 1]] * 0 + 1) == 0


def test_a_collapsed_batch_has_a_bounded_gradient():
    z = torch.ones(4, 3, requires_grad=True)
    (25 * variance_shortage(z) + covariance_penalty(z)).backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z1, z2 = make_pair(6)
    half = vicreg(z1.to(dtype), z2.to(dtype))
    assert half.dtype == torch.float32
    assert torch.equal(half, vicreg(z1.to(dtype).float(), z2.to(dtype).float()))
    expected = vicreg(z1, z2)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(vicreg(z1, z2), expected)


def test_a_common_shift_changes_nothing_but_rounding():
    z1, z2 = make_pair(8)
    torch.testing.assert_close(vicreg(z1 + 3, z2 + 3), vicreg(z1, z2), atol=1e-4, rtol=1e-4)
    order = draw_normal(8).argsort()
    torch.testing.assert_close(vicreg(z1[order], z2[order]), vicreg(z1, z2))


def test_a_loss_that_is_not_finite_says_which_term(data_dir, tmp_path, monkeypatch):
    terms = iter([0.5, 0.5, math.nan, 0.5])
    monkeypatch.setattr("ssl_modules.vicreg.covariance_penalty", lambda z: z.mean() * next(terms))
    case = Case(VICReg, {"hidden_dim": 16, "out_dim": 8}, sizes=(16, 16))
    with pytest.raises(
        MisconfigurationException, match=r"the loss was not finite in step 2 \(covariance\): "
    ):
        train(
            build(case), tiny(data_dir, case), tmp_path, callbacks=[Checkpoints()], enable_checkpointing=True
        )
