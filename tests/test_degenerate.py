"""What divides by a length or a deviation, on what has none: values are the limits, gradients are bounded."""

import math

import numpy as np
import pytest
import torch

from callbacks.figures.retrieval import find_nearest
from callbacks.measures.alignment import sphere_uniformity, view_alignment
from callbacks.measures.frechet import frechet_distance, patch_statistics
from callbacks.measures.knn import score_by_neighbors
from callbacks.measures.linear_probe import fit_probe
from callbacks.measures.rank import effective_rank, feature_spread
from common.rounding import is_rounding
from common.similarity import linear_cka
from ssl_modules.losses.barlow import barlow_twins
from ssl_modules.losses.byol import prediction_losses
from ssl_modules.losses.contrastive import nt_xent, plain_nt_xent
from ssl_modules.losses.dino import self_distillation
from ssl_modules.losses.lejepa import draw_directions, sigreg
from ssl_modules.losses.mae import hidden_patch_losses, standardize_patches
from ssl_modules.losses.multiview import bank_contrast, cross_modal, update_bank
from ssl_modules.networks.prototype_head import PrototypeHead
from tests.draws import draw_normal, make_generator
from tests.test_losses import make_views

N, P = 8, 5
CONSTANTS = (0.0, 0.1, 0.3, 1 / 3, 3.3, -7.7, 1e-3, 1e4)


def contrast_with_bank(z1, z2):
    bank = torch.nn.functional.normalize(draw_normal(2, 20, P), dim=2)
    return bank_contrast(z1, z2, bank, torch.arange(len(z1)), torch.arange(10, 20), 0.2)


def distill(z1, z2):
    return self_distillation(
        torch.stack([z1, z2]), torch.stack([z1, z2]).detach().float().softmax(2), 0.1
    ).mean()


def measure_normality(z1, z2):
    return sigreg(torch.stack([z1, z2]), draw_directions(6, P, make_generator()))


def predict_patches(z1, z2):
    return hidden_patch_losses(
        standardize_patches(z1)[None], standardize_patches(z2)[None], torch.tensor([[0]])[:, :0]
    ).mean()


def compare_with_prototypes(z1, z2):
    torch.manual_seed(0)
    head = PrototypeHead(P, 6, 7)
    head.layers = torch.nn.Identity()
    head.prototypes = torch.nn.Linear(P, 7, bias=False)
    return head(z1.float())[1].square().sum() + head(z2.float())[1].square().sum()


LOSSES = {  # two views (N, P) -> a scalar
    "barlow_twins": lambda z1, z2: barlow_twins(z1, z2, 0.005),
    "barlow_twins, not centered": lambda z1, z2: barlow_twins(z1, z2, 0.005, center=False),
    "nt_xent": lambda z1, z2: nt_xent(z1, z2, 0.2),
    "plain_nt_xent": lambda z1, z2: plain_nt_xent(z1, z2, 0.2),
    "cross_modal": lambda z1, z2: cross_modal(z1, z2, 0.2),
    "bank_contrast": contrast_with_bank,
    "prediction_losses": lambda z1, z2: prediction_losses(z1, z2).mean(),
    "self_distillation": distill,
    "hidden_patch_losses": predict_patches,
    "sigreg": measure_normality,
    "PrototypeHead": compare_with_prototypes,
}


def spoil(kind):
    """Two views, of which the first, or both, are degenerate."""
    z1, z2 = make_views(N, P)
    match kind.split(", "):
        case ["zeros"]:
            z1, z2 = torch.zeros(N, P), torch.zeros(N, P)
        case ["zeros in one"]:
            z1 = torch.zeros(N, P)
        case ["a row of zeros"]:
            z1[2] = 0
        case ["a dimension of zeros"]:
            z1[:, 2] = 0
        case ["constants"]:
            z1, z2 = torch.full((N, P), 0.3), torch.full((N, P), 0.3)
        case ["constants in one"]:
            z1 = torch.full((N, P), 0.3)
        case ["a constant dimension"]:
            z1[:, 2] = 0.3
        case ["one image"]:
            z1, z2 = z1[:1], z2[:1]
        case ["huge", dtype]:
            z1, z2 = ((1e4 * z).to(getattr(torch, dtype)) for z in (z1, z2))
        case ["huge constants", dtype]:
            z1, z2 = (torch.full((N, P), 1e4, dtype=getattr(torch, dtype)) for _ in range(2))
    return z1, z2


KINDS = [
    *("zeros", "zeros in one", "a row of zeros", "a dimension of zeros"),
    *("constants", "constants in one", "a constant dimension", "one image"),
    *(
        f"{size}, {dtype}"
        for size in ("huge", "huge constants")
        for dtype in ("float32", "float16", "bfloat16")
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_degenerate_views_has_a_bounded_gradient(loss, kind):
    z1, z2 = (z.requires_grad_() for z in spoil(kind))
    value = LOSSES[loss](z1, z2)
    value.backward()
    assert value.isfinite() and value.dtype == torch.float32
    for z in (z1, z2):
        assert z.grad is None or z.grad.abs().max() < 100, z.grad.abs().max()


# --- the right limits


def correlate(z1, z2):
    """Correlations (P, P) in float64, 0 where numpy finds a column that is nothing but one number."""
    x, y = (z.double().numpy() for z in (z1, z2))
    return torch.tensor([
        [0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else np.corrcoef(a, b)[0, 1] for b in y.T] for a in x.T
    ])  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("images", [1, 3, 32, 1000])
def test_barlow_a_constant_dimension_has_correlation_zero(value, images, dtype):
    z1, z2 = (z.to(dtype) for z in make_views(images, 4))
    z1[:, 0] = value
    for other in (z2, torch.cat([z1[:, :1], z2[:, 1:]], 1)):  # constant in one view, and in both
        a, b = z1.clone().requires_grad_(), other.clone().requires_grad_()
        loss = barlow_twins(a, b, 0.005)
        loss.backward()
        c = correlate(z1, other)
        d = c.diagonal()
        expected = (1 - d).square().sum() + 0.005 * (c - d.diag()).square().sum()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        assert not a.grad[:, 0].any() and b.grad.abs().max() < 10


def test_barlow_a_dimension_that_rounding_alone_moves_is_constant():
    z1, z2 = make_views(64, 4)
    noise = torch.randint(-2, 3, (64,), generator=torch.Generator().manual_seed(0)) * 2**-22
    z1[:, 0] = z2[:, 0] = 3 + noise  # by up to two units in the last place
    assert barlow_twins(z1, z2, 0.005).item() == pytest.approx(
        barlow_twins(z1[:, 1:], z2[:, 1:], 0.005).item() + 1
    )


@pytest.mark.parametrize("deviation", [1e-4, 1e-2, 1, 1e4])
def test_barlow_what_varies_has_the_same_bits_as_before(deviation):
    z1, z2 = (5 + deviation * z for z in make_views(64, 8))
    a, b = (torch.nn.functional.normalize(z - z.mean(0), dim=0) for z in (z1, z2))
    c = a.T @ b
    d = c.diagonal()
    expected = (1 - d).square().sum() + 0.005 * (c - d.diag()).square().sum()
    assert torch.equal(barlow_twins(z1, z2, 0.005), expected)


def test_a_projection_of_zeros_is_at_right_angles_to_all():
    z1, z2 = make_views(N, P)
    z1[2] = 0
    assert prediction_losses(z1, z2)[2] == 2 and prediction_losses(z2, z1)[2] == 2
    directions = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    similarity = (directions @ directions.T / 0.2).fill_diagonal_(-math.inf)
    partner = torch.arange(2 * N).roll(N)
    expected = torch.nn.functional.cross_entropy(similarity, partner)
    torch.testing.assert_close(nt_xent(z1, z2, 0.2), expected)
    ways = torch.cat([directions[:N] @ directions[N:].T, directions[N:] @ directions[:N].T]) / 0.2
    torch.testing.assert_close(
        cross_modal(z1, z2, 0.2), torch.nn.functional.cross_entropy(ways, torch.arange(N).repeat(2))
    )


def test_losses_of_one_image_are_their_limits():
    z1, z2 = spoil("one image")
    assert nt_xent(z1, z2, 0.2) == 0 and cross_modal(z1, z2, 0.2) == 0  # no other to be taken for
    assert barlow_twins(z1, z2, 0.005) == P


def test_the_bank_keeps_what_it_has_where_a_projection_is_zero():
    bank = torch.nn.functional.normalize(draw_normal(2, 4, P), dim=2)
    before = bank.clone()
    update_bank(bank, torch.zeros(1, P), torch.zeros(1, P), torch.tensor([1]), 0.5)
    torch.testing.assert_close(bank, before)


@pytest.mark.parametrize("pixels", [1, 48])
@pytest.mark.parametrize("value", CONSTANTS)
def test_a_flat_patch_is_standardized_to_zero(value, pixels):
    patches = standardize_patches(torch.full((1, 2, pixels), value))
    torch.testing.assert_close(patches, torch.zeros(1, 2, pixels), atol=1e-3, rtol=0)


# --- measures


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_measures_of_huge_features_are_those_of_any_length(dtype):
    z1, z2 = spoil(f"huge, {dtype}")
    for measure in (feature_spread, sphere_uniformity, effective_rank):
        assert float(measure(z1)) == pytest.approx(float(measure(z1.double() / 1e4)), rel=1e-5)
    assert float(view_alignment(z1, z2)) == pytest.approx(
        float(view_alignment(z1.double(), z2.double())), rel=1e-5
    )
    labels = torch.arange(N) % 3
    votes = [score_by_neighbors(z, z, labels, 3, k=3, precision="highest") for z in (z1, z1.double() / 1e4)]
    torch.testing.assert_close(*votes, atol=1e-5, rtol=0)
    nearest = [find_nearest(z, z, 3)[0].float() for z in (z1, z1.double() / 1e4)]
    torch.testing.assert_close(*nearest, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("rows", [1, 30])
def test_features_that_are_all_alike_are_a_point(value, rows):
    z = torch.full((rows, 6), value)
    assert float(feature_spread(z)) == pytest.approx(0, abs=1e-5)
    assert float(sphere_uniformity(z)) == pytest.approx(0, abs=1e-5)
    assert float(view_alignment(z, z)) == 0
    assert float(effective_rank(z)) == pytest.approx(1, abs=1e-3)
    assert frechet_distance(z, z) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(z, z + 1) == pytest.approx(6, rel=1e-3)
    scores = score_by_neighbors(z, z, torch.arange(rows) % 2, 2, k=rows)
    torch.testing.assert_close(scores.sum(1), torch.ones(rows))
    torch.testing.assert_close(scores[:, 0], torch.full((rows,), -(-rows // 2) / rows), atol=1e-5, rtol=0)


def test_tiny_features_have_the_rank_of_large_ones():
    z = draw_normal(50, 6)
    assert float(effective_rank(1e-15 * z)) == pytest.approx(float(effective_rank(z)), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("width", [3, 40])
def test_cka_with_what_does_not_vary_is_zero(value, width, dtype):
    constant, z = np.full((20, width), value, dtype), draw_normal(20, 5).numpy()
    assert linear_cka(constant, z) == 0 and linear_cka(constant, constant) == 0
    assert linear_cka(z[:1], z[:1]) == 0
    beside = np.concatenate([constant, z.astype(dtype)], 1)
    assert linear_cka(beside, z) == pytest.approx(linear_cka(z.astype(dtype), z), rel=1e-9)


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_flat_patch_has_no_deviation(value):
    statistics = patch_statistics(torch.full((2, 3, 8, 8), value))[:, 48:]
    assert statistics.max() <= 1e-6 * abs(value)


@pytest.mark.parametrize("value", CONSTANTS[1:])
def test_a_probe_gives_no_weight_to_what_rounding_alone_moves(value):
    z = draw_normal(40, 4)
    labels = (z[:, 0] + z[:, 1] > 0).long()
    step = torch.tensor(value).nextafter(torch.tensor(math.inf)) - value  # a unit in the last place
    z[:, 3] = value + step * labels  # which would name the class
    probe = fit_probe(z, labels, 2)
    without = fit_probe(z[:, :3], labels, 2)
    assert not probe.weight[:, 3].any()
    torch.testing.assert_close(probe.weight[:, :3], without.weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows", [1, 12])
@pytest.mark.parametrize("value", CONSTANTS)
def test_a_probe_of_constant_features_gives_class_shares(value, rows):
    labels = (torch.arange(rows) % 3 == 0).long()
    probe = fit_probe(torch.full((rows, 4), value), labels, 2)
    assert not probe.weight.any()
    if rows > 1:
        torch.testing.assert_close(probe.bias.softmax(0)[1], torch.tensor(1 / 3), atol=1e-4, rtol=0)


def test_rounding_is_judged_by_the_precision_that_numbers_came_in():
    assert is_rounding(1e-6, 1.0, torch.finfo(torch.float32).eps) and not is_rounding(2e-6, 1.0, 1.2e-7)
    assert not is_rounding(1e-6, 1.0, torch.finfo(torch.float64).eps)
    assert is_rounding(0.5 * 2**-7, 1.0, torch.finfo(torch.bfloat16).eps) and not is_rounding(
        0.02, 1.0, 2**-7
    )
    assert is_rounding(0.0, 0.0, 1e-7)
