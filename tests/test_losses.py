import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_modules.losses import blockwise
from ssl_modules.losses.barlow import barlow_twins
from ssl_modules.losses.contrastive import nt_xent, plain_nt_xent


def make_views(images=6, dim=5, spread=0.5, dtype=torch.float32):
    """Two views that resemble each other."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(images, dim, generator=generator)
    z2 = z1 + spread * torch.randn(images, dim, generator=generator)
    return z1.to(dtype), z2.to(dtype)


def nt_xent_in_loops(z1, z2, temperature):
    """Equation 1 of the paper, one pair of views at a time, in float64."""
    z = torch.cat([z1, z2]).double()
    views, images = len(z), len(z1)

    def similarity(i, k):
        return z[i] @ z[k] / (z[i].norm() * z[k].norm())

    loss = z.new_zeros(())
    for i in range(views):
        j = (i + images) % views  # the other view of the same image
        others = [(similarity(i, k) / temperature).exp() for k in range(views) if k != i]
        loss = loss - ((similarity(i, j) / temperature).exp() / sum(others)).log() / views
    return loss


@pytest.fixture(params=[blockwise.BLOCK, 30, 1], ids=["at once", "in blocks", "view by view"])
def block(request, monkeypatch):
    """How many similarities are in memory at a time."""
    monkeypatch.setattr(blockwise, "BLOCK", request.param)
    return request.param


@pytest.mark.parametrize("images", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_and_its_gradient_are_the_equation_of_the_paper(images, temperature, block):
    ours, theirs = (
        [z.requires_grad_() for z in make_views(images, dtype=d)] for d in (torch.float32, torch.float64)
    )
    loss, expected = nt_xent(*ours, temperature), nt_xent_in_loops(*theirs, temperature)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("images", [1, 2, 7, 50])
def test_nt_xent_and_its_gradient_are_those_of_the_plain_form(images, block):
    ours, plain = ([z.requires_grad_() for z in make_views(images)] for _ in range(2))
    loss, expected = nt_xent(*ours, 0.2), plain_nt_xent(*plain, 0.2)
    torch.testing.assert_close(loss, expected)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, plain)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("images", [1, 4, 33])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_known_value_when_all_views_look_alike(images, temperature):
    z = torch.ones(images, 3)
    assert nt_xent(z, z, temperature).item() == pytest.approx(math.log(2 * images - 1), abs=1e-5)


def test_known_value_when_every_image_points_its_own_way():
    z = torch.eye(4)
    expected = math.log(math.exp(1 / 0.5) + 6) - 1 / 0.5  # the partner at cosine 1, six others at 0
    assert nt_xent(z, z, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_order_of_views_scale_and_order_of_images_do_not_matter():
    z1, z2 = make_views()
    loss = nt_xent(z1, z2, 0.5)
    shuffle = torch.randperm(len(z1), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(z2, z1, 0.5), loss)
    torch.testing.assert_close(nt_xent(3 * z1, 0.1 * z2, 0.5), loss)
    torch.testing.assert_close(nt_xent(z1[shuffle], z2[shuffle], 0.5), loss)


def test_which_views_are_partners_does_matter():
    z1, z2 = make_views()
    assert nt_xent(z1, z2.roll(1, 0), 0.5) > nt_xent(z1, z2, 0.5) + 0.1


def test_closer_partners_and_a_lower_temperature_lose_less():
    losses = [nt_xent(*make_views(spread=spread), temperature=0.5) for spread in (0.0, 0.3, 3.0)]
    assert losses == sorted(losses)
    z1, _ = make_views()
    losses = [nt_xent(z1, z1, temperature) for temperature in (0.05, 0.2, 1.0)]
    assert losses == sorted(losses) and losses[0] < 0.05


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_nt_xent_is_finite_for_projections_of_any_size(scale, temperature):
    z1, z2 = (z.mul(scale).requires_grad_() for z in make_views())
    loss = nt_xent(z1, z2, temperature)
    loss.backward()
    assert loss.isfinite() and z1.grad.isfinite().all() and z2.grad.isfinite().all()


def test_nt_xent_is_finite_for_projections_that_are_zero():
    z1, z2 = (torch.zeros(4, 3, requires_grad=True) for _ in range(2))
    loss = nt_xent(z1, z2, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7), abs=1e-5) and z1.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    halves = make_views(images=32, dtype=dtype)
    loss = nt_xent(*halves, 0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nt_xent(*(z.float() for z in halves), 0.1))
    torch.testing.assert_close(loss, nt_xent(*make_views(images=32), 0.1), atol=0.02, rtol=0)


def test_autocast_around_it_changes_not_one_bit():
    z1, z2 = make_views(images=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z1, z2, 0.1)
    assert loss.dtype == torch.float32 and torch.equal(loss, nt_xent(z1, z2, 0.1))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_mean_over_processes_is_that_of_the_whole_batch(world, block):
    batch, shards = ([z.requires_grad_() for z in make_views()] for _ in range(2))
    loss = nt_xent_in_loops(*batch, 0.2).float()
    loss.backward()
    count = len(batch[0]) // world
    gradients = [torch.zeros_like(z) for z in shards]
    losses = []
    for first in range(0, len(batch[0]), count):
        z1, z2 = (z[first : first + count] for z in shards)
        losses.append(nt_xent(z1, z2, 0.2, candidates=tuple(shards), first=first))
        for total, part in zip(gradients, torch.autograd.grad(losses[-1], shards), strict=True):
            total += part / world  # as a mean over processes, which is what DDP takes
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    for gradient, z in zip(gradients, batch, strict=True):
        torch.testing.assert_close(gradient, z.grad, atol=1e-6, rtol=1e-5)


def test_a_loss_can_be_used_and_differentiated_twice(block):
    z1, z2 = (z.requires_grad_() for z in make_views())
    loss = nt_xent(z1, z2, 0.2)
    once = torch.autograd.grad(loss, z1, retain_graph=True)[0]
    thrice = torch.autograd.grad(loss + 2 * loss, z1)[0]
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("weights", [None, [0.4, 1.0, 1.3, 2.0]])
def test_blockwise_gradients_are_those_of_finite_differences(block, weights):
    views, others = torch.randn(2, 10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views, others = views[:4].requires_grad_(), others.requires_grad_()
    itself, partner = torch.tensor([2, 3, 7, 8]), torch.tensor([7, 8, 2, 3])
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda views, others: blockwise.BlockwiseInfoNCE.apply(views, others, itself, partner, weights, 0.7),
        (views, others),
    )


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation returns."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        output = operation(*args, **(kwargs or {}))
        sizes = [
            x.numel()
            for x in (output if isinstance(output, tuple) else [output])
            if isinstance(x, torch.Tensor)
        ]
        self.numbers = max([self.numbers, *sizes])
        return output


def test_only_a_block_of_similarities_is_in_memory_at_a_time(monkeypatch):
    z1, z2 = (z.requires_grad_() for z in make_views(images=64))  # 128 x 128 similarities
    for block, largest in [(2**14, 2**14), (2**12, 2**12), (1, 128 * 5)]:
        monkeypatch.setattr(blockwise, "BLOCK", block)
        with LargestTensor() as tensor:
            nt_xent(z1, z2, 0.2).backward()
        assert tensor.numbers == largest


def test_inputs_stay_as_they_were_and_nothing_is_drawn(block):
    z1, z2 = (z.requires_grad_() for z in make_views())
    copies, state = (z1.clone(), z2.clone()), torch.get_rng_state()
    nt_xent(z1, z2, 0.5).backward()
    assert torch.equal(z1, copies[0]) and torch.equal(z2, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


# --- Barlow Twins


def barlow_in_loops(z1, z2, weight, center):
    """Equations 1 and 2 of the paper, one pair of dimensions at a time, in float64."""
    z1, z2 = z1.double(), z2.double()
    if center:
        z1, z2 = z1 - z1.mean(0), z2 - z2.mean(0)
    loss = z1.new_zeros(())
    for i in range(z1.shape[1]):
        for j in range(z2.shape[1]):
            a, b = z1[:, i], z2[:, j]
            c = (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())
            loss = loss + ((1 - c) ** 2 if i == j else weight * c**2)
    return loss


def make_shifted_views(**shape):
    """Two views whose dimensions have means and scales of their own."""
    z1, z2 = make_views(**shape)
    scale, shift = torch.linspace(0.5, 3, z1.shape[1]), torch.linspace(-2, 1, z1.shape[1])
    return (z1 * scale + shift).to(z1.dtype), (z2 * scale + shift).to(z2.dtype)


def make_white(images=12, dim=4):
    """Projections with mean 0, uncorrelated dimensions, all of one size."""
    z, _ = make_views(images, dim, dtype=torch.float64)
    return torch.linalg.qr(z - z.mean(0))[0]


@pytest.mark.parametrize("images, dim", [(2, 1), (3, 5), (16, 7)])
@pytest.mark.parametrize("weight", [0.005, 1.0])
@pytest.mark.parametrize("center", [True, False])
def test_barlow_and_its_gradient_are_the_equation_of_the_paper(images, dim, weight, center):
    ours = [z.requires_grad_() for z in make_shifted_views(images=images, dim=dim)]
    theirs = [z.detach().double().requires_grad_() for z in ours]
    loss, expected = barlow_twins(*ours, weight, center), barlow_in_loops(*theirs, weight, center)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("center", [True, False])
def test_barlow_known_values(center):
    z = make_white(12, 8)
    one, other = z[:, :4], z[:, 4:]
    same = other[:, :1].expand(-1, 4)  # one dimension, four times
    for z1, z2, expected in [
        (one, one, 0.0),  # the identity
        (one, other, 4.0),  # nothing in common: all correlations 0
        (one, -one, 16.0),  # four correlations of -1
        (same, same, 0.005 * 12),  # twelve of 1 beside the diagonal
        (one, one.roll(1, 1), 4 + 0.005 * 4),  # each dimension agrees with another one
    ]:
        assert barlow_twins(z1, z2, 0.005, center).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("center", [True, False])
def test_barlow_ignores_scale_and_order_of_dimensions_and_images(center):
    z1, z2 = make_shifted_views(images=16)
    loss, generator = barlow_twins(z1, z2, 0.1, center), torch.Generator().manual_seed(0)
    images, dims = torch.randperm(16, generator=generator), torch.randperm(5, generator=generator)
    scale = torch.tensor([0.01, 0.5, 1.0, 3.0, 1000.0])
    for a, b in [
        (z1 * scale, z2 * scale.flip(0)),
        (z2, z1),
        (z1[images], z2[images]),
        (z1[:, dims], z2[:, dims]),
    ]:
        torch.testing.assert_close(barlow_twins(a, b, 0.1, center), loss)


def test_barlow_means_of_dimensions_matter_only_without_centering():
    (z1, z2), shift = make_shifted_views(images=16), torch.tensor([1.0, -2.0, 3.0, 0.0, 5.0])
    moved = z1 + shift, z2 - shift
    torch.testing.assert_close(barlow_twins(*moved, 0.1), barlow_twins(z1, z2, 0.1))
    assert (barlow_twins(*moved, 0.1, False) - barlow_twins(z1, z2, 0.1, False)).abs() > 0.1


def test_barlow_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    for weight in (0.005, 0.5):
        z1, z2 = make_shifted_views(images=64, dim=16)
        expected = lightly.BarlowTwinsLoss(lambda_param=weight)(z1, z2)
        torch.testing.assert_close(barlow_twins(z1, z2, weight), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("center", [True, False])
def test_barlow_is_finite_for_projections_of_any_size(scale, center):
    z1, z2 = (z.mul(scale).requires_grad_() for z in make_views())
    loss = barlow_twins(z1, z2, 0.005, center)
    loss.backward()
    assert loss.isfinite() and z1.grad.isfinite().all() and z2.grad.isfinite().all()


def test_barlow_dimensions_that_are_constant_count_as_uncorrelated():
    z1, z2 = (torch.full((6, 4), 3.0, requires_grad=True) for _ in range(2))
    loss = barlow_twins(z1, z2, 0.005)
    loss.backward()
    assert loss.item() == 4 and z1.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("center", [True, False])
def test_barlow_half_precision_inputs_are_computed_in_float32(dtype, center):
    halves = make_shifted_views(images=32, dtype=dtype)
    loss = barlow_twins(*halves, 0.005, center)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, barlow_twins(*(z.float() for z in halves), 0.005, center))
    torch.testing.assert_close(
        loss, barlow_twins(*make_shifted_views(images=32), 0.005, center), atol=0.02, rtol=0
    )


def test_barlow_autocast_around_it_changes_not_one_bit():
    z1, z2 = make_shifted_views(images=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = barlow_twins(z1, z2, 0.005)
    assert loss.dtype == torch.float32 and torch.equal(loss, barlow_twins(z1, z2, 0.005))


def test_barlow_inputs_stay_as_they_were_and_nothing_is_drawn():
    z1, z2 = make_views()
    copies, state = (z1.clone(), z2.clone()), torch.get_rng_state()
    barlow_twins(z1, z2, 0.005)
    assert torch.equal(z1, copies[0]) and torch.equal(z2, copies[1])
    assert torch.equal(torch.get_rng_state(), state)
