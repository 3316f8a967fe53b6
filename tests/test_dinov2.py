"""DINOv2: KoLeo is the equation, distributions are Sinkhorn-Knopp's, and a step is an independent computation."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ssl_modules.losses.koleo import koleo
from ssl_modules.networks.masks import draw_view_masks
from tests.draws import draw_normal
from tests.figure_runs import find_case
from tests.methods import build
from tests.test_distillation import draw_batch
from tests.test_ibot import build_drifted, hide_by_hand, ibot_in_loops

DINOV2 = find_case("DINOv2")
HALVES = [torch.bfloat16, torch.float16]


def koleo_in_loops(features: Tensor) -> Tensor:
    """Equation 2 of Sablayrolles et al., of normalized vectors, one pair of images at a time, in float64: (B,)"""
    x = [row / sum(number**2 for number in row).sqrt() for row in features.double()]
    losses = []
    for i, one in enumerate(x):
        distances = [((one - other) ** 2).sum().sqrt() for j, other in enumerate(x) if j != i]
        losses.append(-min(distances).log())
    return torch.stack(losses)


# --- KoLeo


@pytest.mark.parametrize("images, dim", [(2, 3), (7, 5), (20, 16)])
def test_koleo_and_its_gradient_are_the_equation_of_the_paper(images, dim):
    ours = draw_normal(images, dim).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    losses, expected = koleo(ours), koleo_in_loops(theirs)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    losses.mean().backward(), expected.mean().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-4)


def test_koleo_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    features = draw_normal(32, 16)
    torch.testing.assert_close(koleo(features).mean(), lightly.KoLeoLoss()(features))


def test_koleo_known_values_and_scale():
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(koleo(square), torch.full((4,), -math.log(2) / 2))
    x = draw_normal(6, 4)
    torch.testing.assert_close(koleo(100 * x), koleo(x))


def test_parts_of_a_batch_find_their_neighbors_in_all_of_it():
    whole = draw_normal(9, 5).requires_grad_()
    parts = [koleo(whole[rows], whole, rows.start) for rows in (slice(0, 4), slice(4, 9))]
    torch.testing.assert_close(torch.cat(parts), koleo(whole))
    gradients = [torch.autograd.grad(loss.sum(), whole)[0] for loss in (torch.cat(parts), koleo(whole))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("scale", [0.0, 1e-15, 1e15])
def test_koleo_is_finite_for_vectors_of_any_size_and_for_equal_ones(scale):
    for x in (draw_normal(6, 5), draw_normal(1, 5).repeat(6, 1)):
        x = x.mul(scale).requires_grad_()
        losses = koleo(x)
        losses.sum().backward()
        assert losses.isfinite().all() and x.grad.isfinite().all() and losses.max() < 18.5


@pytest.mark.parametrize("dtype", HALVES)
def test_koleo_is_computed_in_float32(dtype):
    x = draw_normal(6, 5)
    losses = koleo(x.to(dtype))
    assert losses.dtype == torch.float32 and torch.equal(losses, koleo(x.to(dtype).float()))
    expected = koleo(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(koleo(x), expected)


# --- the step


def balance_by_hand(logits: Tensor, temperature: float) -> Tensor:
    """Three iterations of Sinkhorn-Knopp over rows (N, K), one sum at a time, as the paper's supplement."""
    shares = (logits / temperature).exp()
    for _ in range(3):
        for k in range(shares.shape[1]):
            shares[:, k] /= sum(shares[:, k].clone())
        for i in range(len(shares)):
            shares[i] /= sum(shares[i].clone())
    return shares


def recompute_dinov2(method: nn.Module, views: list[Tensor], mask: Tensor) -> dict[str, Tensor]:
    """The three terms of the loss, one view at a time."""
    masked = [hide_by_hand(method, view, mask[g]) for g, view in enumerate(views[:2])]
    features = [features for features, _ in masked] + [method.student(view) for view in views[2:]]
    log_p = [(method.head(f)[1] / method.temperature).double().log_softmax(1) for f in features]
    of_patches = torch.stack([method.head.patches(tokens)[1] for _, tokens in masked])
    with torch.no_grad():
        tokens = [method.encoder.encode_tokens(view)[1] for view in views[:2]]
        logits = torch.cat([method.teacher_head(t.mean(1))[1] for t in tokens])
        targets = balance_by_hand(logits, method.schedules[0][0]).view(2, len(views[0]), -1)
        wanted = torch.stack([method.teacher_head.patches(t)[1] for t in tokens])
        wanted[mask] = balance_by_hand(wanted[mask], method.schedules[1][0])
    pairs = [(g, v) for g in range(2) for v in range(len(views)) if v != g]
    return {
        "class_loss": sum(-(targets[g] * log_p[v]).sum(1).mean() for g, v in pairs) / len(pairs),
        "patch_loss": ibot_in_loops(of_patches, wanted, mask, method.temperature).mean(),
        "koleo_loss": 0.1 * sum(koleo_in_loops(f).mean() for f in features[:2]),
    }


def test_a_step_and_its_gradients_are_an_independent_computation():
    more = {"patch_temperatures": (0.06, 0.07)}
    method, batch = build_drifted(DINOV2._replace(arguments=DINOV2.arguments | more)), draw_batch(DINOV2)
    by_hand = copy.deepcopy(method).double()
    out = method.training_step(batch, 0)
    terms = recompute_dinov2(
        by_hand, [v.double() for v in batch.views], draw_view_masks(batch.key, 2, (4, 4))
    )
    for name, term in terms.items():
        torch.testing.assert_close(out["metrics"][name].double(), term, atol=1e-5, rtol=1e-5, msg=name)
    loss, expected = out["loss"], sum(terms.values())
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        teacher = name.startswith(("encoder.", "teacher_head."))
        assert teacher == (parameter.grad is None) == (method.get_parameter(name).grad is None), name
        if not teacher:
            ours = method.get_parameter(name).grad.double()
            torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=2e-3, msg=name)


def test_it_keeps_no_running_means():
    method = build(DINOV2)
    assert not [name for name in method.state_dict() if "center" in name]
    method.training_step(draw_batch(DINOV2), 0)["loss"].backward()
    before = copy.deepcopy(method.state_dict())
    method.on_after_backward()
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name])
