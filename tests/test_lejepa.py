"""LeJEPA: both terms are the paper's, by loops, other integrals and lightly; collapsed batches are pulled apart."""

import copy
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from common.batch import Batch, BatchKey
from ssl_modules.losses import characteristic
from ssl_modules.losses.characteristic import CharacteristicFunction
from ssl_modules.losses.lejepa import center_losses, draw_directions, sigreg
from tests.draws import draw_normal, make_generator
from tests.errors import refused_in_one_line
from tests.figure_runs import find_case
from tests.methods import build

LEJEPA = find_case("LeJEPA")
HALVES = [torch.bfloat16, torch.float16]
OF_NORMAL = math.sqrt(2 * math.pi) * (
    1 - 1 / math.sqrt(3)
)  # means of the statistic, and what it is a sample at 0
OF_ZEROS = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))


def spread_directions(count: int, dim: int, seed: int = 9) -> Tensor:
    return draw_directions(count, dim, make_generator(seed))


def epps_pulley_in_loops(x: list[Tensor], points: int, t_max: float) -> Tensor:
    """Algorithm 1 of the paper, of one direction: one point and one sample at a time, from -t_max to t_max."""
    step, errors = 2 * t_max / (points - 1), []
    for point in range(points):
        t = -t_max + point * step
        normal = math.exp(-(t**2) / 2)
        real = sum((t * number).cos() for number in x) / len(x)
        imaginary = sum((t * number).sin() for number in x) / len(x)
        errors.append(((real - normal) ** 2 + imaginary**2) * normal)
    trapezoids = [step * (a + b) / 2 for a, b in pairwise(errors)]
    return sum(trapezoids) * len(x)


def sigreg_in_loops(z: Tensor, directions: Tensor, points: int, t_max: float) -> Tensor:
    """The mean over views and directions, in float64."""
    statistics = []
    for view in z.double():
        for direction in directions.double():
            x = [sum(a * b for a, b in zip(sample, direction, strict=True)) for sample in view]
            statistics.append(epps_pulley_in_loops(x, points, t_max))
    return sum(statistics) / len(statistics)


def centers_in_loops(z: Tensor, large: int) -> Tensor:
    """The prediction term of algorithm 2, one number at a time, in float64: (B,)"""
    z, losses = z.double(), []
    for image in range(z.shape[1]):
        errors = []
        for dimension in range(z.shape[2]):
            center = sum(z[view, image, dimension] for view in range(large)) / large
            errors += [(center - z[view, image, dimension]) ** 2 for view in range(len(z))]
        losses.append(sum(errors) / len(errors))
    return torch.stack(losses)


@pytest.fixture(params=[characteristic.BLOCK, 40, 1], ids=["at once", "in blocks", "row by row"])
def block(request, monkeypatch):
    """How many projections are in memory at a time."""
    monkeypatch.setattr(characteristic, "BLOCK", request.param)


# --- the statistic


@pytest.mark.parametrize("points, t_max", [(17, 5.0), (33, 3.0), (3, 1.0), (5, 8.0)])
@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 7, 3)])
def test_sigreg_and_its_gradient_are_the_algorithm_of_the_paper(shape, points, t_max, block):
    ours, directions = (2 * draw_normal(*shape) + 0.5).requires_grad_(), spread_directions(4, shape[-1])
    theirs = ours.detach().double().requires_grad_()
    loss = sigreg(ours, directions, points, t_max)
    expected = sigreg_in_loops(theirs, directions, points, t_max)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-4)


def test_the_mean_cosines_and_sines_have_the_gradient_of_finite_differences(block):
    z, directions = draw_normal(2, 6, 3).double().requires_grad_(), spread_directions(5, 3).double()
    apply = CharacteristicFunction.apply
    assert torch.autograd.gradcheck(lambda z: apply(z, directions, 0.4, 9), (z,))
    angles = 0.4 * torch.arange(9) * (z @ directions.T)[..., None]  # (V, B, M, T)
    means = torch.stack([angles.cos().mean(1), angles.sin().mean(1)])
    torch.testing.assert_close(apply(z, directions, 0.4, 9), means.permute(0, 3, 1, 2))


@pytest.mark.parametrize("scale, shift", [(1, 0), (0.3, 0), (2, 1), (0, 0), (0, 2)])
def test_sigreg_is_the_integral_as_scipy_and_its_closed_form_have_it(scale, shift):
    """17 trapezoids are enough for numbers of the size that a Gaussian's have, and nothing is left beyond t_max."""
    x = (scale * draw_normal(20) + shift).double()

    def integrand(t: float) -> float:
        angles, normal = t * x, math.exp(-(t**2) / 2)
        return ((angles.cos().mean() - normal) ** 2 + angles.sin().mean() ** 2).item() * normal

    ours = sigreg(x[None, :, None], torch.ones(1, 1)).item()
    assert ours == pytest.approx(20 * quad(integrand, -5, 5)[0], rel=1e-3, abs=1e-4)
    pairs = (-(x[:, None] - x).square() / 2).exp().sum() / 20
    closed = pairs - math.sqrt(2) * (-x.square() / 4).exp().sum() + 20 / math.sqrt(3)
    assert ours == pytest.approx(math.sqrt(2 * math.pi) * closed.item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("samples", [4, 64, 1024])
def test_sigreg_known_values(samples):
    directions = spread_directions(16, 8)
    assert sigreg(torch.zeros(2, samples, 8), directions).item() == pytest.approx(
        samples * OF_ZEROS, rel=1e-4
    )
    statistics = [sigreg(draw_normal(1, samples, 8, seed=seed), directions) for seed in range(200)]
    assert torch.stack(statistics).mean().item() == pytest.approx(OF_NORMAL, rel=0.05)


def draw_uniform(samples: int, dim: int) -> Tensor:
    """Of mean 0 and variance 1, as the normal distribution."""
    return (torch.rand(samples, dim, generator=make_generator()) - 0.5) * math.sqrt(12)


OTHERS = {
    "uniform": draw_uniform(2048, 4),
    "of two clusters": draw_normal(2048, 4).sign() + 0.1 * draw_normal(2048, 4, seed=1),
    "collapsed": torch.zeros(2048, 4) + 0.3,
    "correlated": draw_normal(2048, 1) + 0.3 * draw_normal(2048, 4, seed=1),
    "on a line": draw_normal(2048, 4) * torch.tensor([1.0, 0, 0, 0]),
    "too narrow": 0.7 * draw_normal(2048, 4),
    "too wide": 1.4 * draw_normal(2048, 4),
    "off the center": draw_normal(2048, 4) + 0.3,
}


@pytest.mark.parametrize("name", OTHERS)
def test_normal_samples_have_a_smaller_statistic_than_others(name):
    directions = torch.cat([torch.eye(4), spread_directions(60, 4)])  # a sum of many numbers is nearly normal
    assert sigreg(OTHERS[name][None], directions) > 2 * sigreg(draw_normal(1, 2048, 4), directions)


@pytest.mark.parametrize("start", ["collapsed", "on a line"])
def test_the_gradient_pulls_a_collapsed_batch_apart(start):
    z = (OTHERS[start][None, :64] + 1e-3 * draw_normal(1, 64, 4)).requires_grad_()
    optimizer, generator = torch.optim.Adam([z], lr=0.05), make_generator()
    for _ in range(300):
        optimizer.zero_grad()
        loss = sigreg(z, draw_directions(32, 4, generator))
        loss.backward()
        optimizer.step()
    spreads = torch.linalg.eigvalsh(z.detach()[0].T.cov())
    assert loss < OF_NORMAL and spreads.min() > 0.5 and spreads.max() < 1.5


def test_sigreg_goes_by_the_set_of_samples_of_each_view():
    z, directions = draw_normal(2, 9, 5) ** 2, spread_directions(6, 5)
    loss = sigreg(z, directions)
    torch.testing.assert_close(sigreg(z[:, torch.randperm(9)], directions), loss)
    torch.testing.assert_close(sigreg(z.flip(0), directions), loss)
    torch.testing.assert_close(sigreg(z, directions.flip(0)), loss)
    torch.testing.assert_close(sigreg(-z, directions), loss)
    turn = torch.linalg.qr(draw_normal(5, 5))[0]
    torch.testing.assert_close(sigreg(z @ turn, directions @ turn), loss)
    each = torch.stack([sigreg(view[None], directions) for view in z])
    torch.testing.assert_close(each.mean(), loss)
    torch.testing.assert_close(sigreg(z.repeat(1, 3, 1), directions), 3 * loss)  # it grows with N


def test_directions_are_of_length_one_and_evenly_spread():
    directions = spread_directions(4096, 6)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4096))
    assert directions.mean(0).abs().max() < 0.05
    torch.testing.assert_close(directions.T @ directions / 4096, torch.eye(6) / 6, atol=0.02, rtol=0)


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e3, 1e6])
def test_sigreg_is_finite_for_projections_of_any_size(scale):
    z = (scale * draw_normal(2, 6, 5)).requires_grad_()
    loss = sigreg(z, spread_directions(7, 5))
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all() and loss < 6 * math.sqrt(2 * math.pi) * 4


@pytest.mark.parametrize("dtype", HALVES)
def test_both_terms_are_computed_in_float32(dtype):
    z, directions = draw_normal(3, 6, 5), spread_directions(7, 5)
    for term in (lambda z: sigreg(z, directions), lambda z: center_losses(z, 2).mean()):
        loss = term(z.to(dtype))
        assert loss.dtype == torch.float32 and torch.equal(loss, term(z.to(dtype).float()))
        plain, inside = (z.clone().requires_grad_() for _ in range(2))
        expected = term(plain)
        expected.backward()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = term(inside)
            loss.backward()
        assert torch.equal(loss, expected) and torch.equal(inside.grad, plain.grad)


# --- the prediction


@pytest.mark.parametrize("views, large", [(2, 2), (5, 2), (3, 1)])
def test_centers_and_their_gradient_are_the_algorithm_of_the_paper(views, large):
    ours = draw_normal(views, 4, 3).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    losses, expected = center_losses(ours, large), centers_in_loops(theirs, large)
    torch.testing.assert_close(losses.double(), expected, atol=1e-6, rtol=1e-5)
    losses.mean().backward(), expected.mean().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-7, rtol=1e-5)


def test_centers_known_values():
    z = draw_normal(1, 4, 3)
    assert center_losses(z.expand(5, -1, -1), 2).abs().max() < 1e-12
    torch.testing.assert_close(
        center_losses(torch.cat([z, z + 2]), 2), torch.ones(4)
    )  # 1 from the center each
    torch.testing.assert_close(center_losses(torch.cat([z, z + 2]), 1), torch.full((4,), 2.0))  # 0 and 2


# --- beside lightly


def test_both_terms_agree_with_lightly(monkeypatch):
    lightly = pytest.importorskip("lightly.loss")
    theirs, z = lightly.LeJEPALoss(lambda_param=0.05), draw_normal(5, 32, 16) + 0.2
    directions = spread_directions(1024, 16)
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *shape: directions.T)
    a, b = (z.clone().requires_grad_() for _ in range(2))
    ours = 0.95 * center_losses(a, 2).mean() + 0.05 * sigreg(a, directions, points=33, t_max=3.0)
    expected = theirs(local_proj=b[2:], global_proj=b[:2])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    ours.backward(), expected.backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)
    # where their integral ends makes a difference of a few percent; ours, with half the points, is the whole integral
    assert sigreg(z, directions) == pytest.approx(sigreg(z, directions, 401, 10.0).item(), rel=1e-4)
    assert sigreg(z, directions, 33, 3.0) < 0.997 * sigreg(z, directions)


# --- the step


def draw_batch(images: int = 6) -> Batch:
    views = [draw_normal(images, 3, size, size, seed=i) for i, size in enumerate(LEJEPA.sizes)]
    return Batch(views, torch.zeros(images), torch.arange(images), BatchKey.single(7, images))


def test_a_step_and_its_gradients_are_an_independent_computation():
    method, batch = build(LEJEPA, "group", sigreg_weight=0.3), draw_batch()
    by_hand = copy.deepcopy(method).double()
    out = method.training_step(batch, 0)
    features = torch.stack([by_hand.encoder(view.double()) for view in batch.views])
    z = by_hand.projector(features.flatten(0, 1)).view(5, 6, 8)  # batch norm sees all views at once
    directions = draw_directions(32, 8, batch.key.generator("directions"))
    prediction, normality = centers_in_loops(z, 2).mean(), sigreg_in_loops(z, directions, 17, 5.0)
    expected = 0.7 * prediction + 0.3 * normality
    torch.testing.assert_close(out["loss"].double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        out["metrics"]["prediction"].double(), prediction.detach(), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(out["metrics"]["sigreg"].double(), normality.detach(), atol=1e-5, rtol=1e-5)
    out["loss"].backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        ours = method.get_parameter(name).grad.double()
        torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_each_batch_is_looked_at_from_other_directions():
    method, batch = build(LEJEPA, "group"), draw_batch()
    first, again, other = (
        method.training_step(batch._replace(key=BatchKey.single(number, 6)), 0)["metrics"]["sigreg"]
        for number in (7, 7, 8)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("points", [1, 16])
def test_points_that_make_no_integral_are_refused_in_one_line(points):
    with refused_in_one_line("LeJEPA", f"{points} points", "an odd number from 3 up"):
        build(LEJEPA, points=points)


# --- memory

MEASURE = """
import resource
import torch
from ssl_modules.losses.lejepa import sigreg
z, directions = torch.randn(2, 4096, 64).requires_grad_(), torch.randn(1024, 64)
sigreg(z[:, :8], directions).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sigreg(z, directions).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_large_batch_takes_little_memory():
    """The cosines and sines of 9 points, 1,024 directions and 2 x 4,096 samples alone are 604 MB."""
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 100  # MB
