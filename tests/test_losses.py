import math

import pytest
import torch

from ssl_modules.losses.contrastive import nt_xent


def pair(images=6, dim=5, spread=0.5, dtype=torch.float32):
    """Two views that resemble each other."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(images, dim, generator=generator)
    z2 = z1 + spread * torch.randn(images, dim, generator=generator)
    return z1.to(dtype), z2.to(dtype)


def paper(z1, z2, temperature):
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


@pytest.mark.parametrize("images", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_it_is_the_equation_of_the_paper_and_so_is_its_gradient(images, temperature):
    ours, theirs = (
        [z.requires_grad_() for z in pair(images, dtype=d)] for d in (torch.float32, torch.float64)
    )
    loss, expected = nt_xent(*ours, temperature), paper(*theirs, temperature)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), other, atol=1e-5, rtol=1e-4)


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
    z1, z2 = pair()
    loss = nt_xent(z1, z2, 0.5)
    shuffle = torch.randperm(len(z1), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(z2, z1, 0.5), loss)
    torch.testing.assert_close(nt_xent(3 * z1, 0.1 * z2, 0.5), loss)
    torch.testing.assert_close(nt_xent(z1[shuffle], z2[shuffle], 0.5), loss)


def test_which_views_are_partners_does_matter():
    z1, z2 = pair()
    assert nt_xent(z1, z2.roll(1, 0), 0.5) > nt_xent(z1, z2, 0.5) + 0.1


def test_closer_partners_lose_less_the_lower_the_temperature_the_less():
    losses = [nt_xent(*pair(spread=spread), temperature=0.5) for spread in (0.0, 0.3, 3.0)]
    assert losses == sorted(losses)
    z1, _ = pair()
    losses = [nt_xent(z1, z1, temperature) for temperature in (0.05, 0.2, 1.0)]
    assert losses == sorted(losses) and losses[0] < 0.05


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_projections_of_any_size_give_a_finite_loss_and_gradient(scale, temperature):
    z1, z2 = (z.mul(scale).requires_grad_() for z in pair())
    loss = nt_xent(z1, z2, temperature)
    loss.backward()
    assert loss.isfinite() and z1.grad.isfinite().all() and z2.grad.isfinite().all()


def test_projections_that_are_zero_give_a_finite_loss_and_gradient():
    z1, z2 = (torch.zeros(4, 3, requires_grad=True) for _ in range(2))
    loss = nt_xent(z1, z2, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7), abs=1e-5) and z1.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    halves = pair(images=32, dtype=dtype)
    loss = nt_xent(*halves, 0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nt_xent(*(z.float() for z in halves), 0.1))
    torch.testing.assert_close(loss, nt_xent(*pair(images=32), 0.1), atol=0.02, rtol=0)


def test_autocast_around_it_changes_not_one_bit():
    z1, z2 = pair(images=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z1, z2, 0.1)
    assert loss.dtype == torch.float32 and torch.equal(loss, nt_xent(z1, z2, 0.1))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_mean_over_processes_is_the_whole_batch_gradients_too(world):
    whole, shards = ([z.requires_grad_() for z in pair()] for _ in range(2))
    loss = nt_xent(*whole, 0.2)
    loss.backward()
    count = len(whole[0]) // world
    gradients = [torch.zeros_like(z) for z in shards]
    losses = []
    for first in range(0, len(whole[0]), count):
        z1, z2 = (z[first : first + count] for z in shards)
        losses.append(nt_xent(z1, z2, 0.2, candidates=tuple(shards), first=first))
        for total, part in zip(gradients, torch.autograd.grad(losses[-1], shards), strict=True):
            total += part / world  # as a mean over processes, which is what DDP takes
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    for gradient, z in zip(gradients, whole, strict=True):
        torch.testing.assert_close(gradient, z.grad, atol=1e-6, rtol=1e-5)


def test_inputs_stay_as_they_were_and_nothing_is_drawn():
    z1, z2 = pair()
    copies, state = (z1.clone(), z2.clone()), torch.get_rng_state()
    nt_xent(z1, z2, 0.5)
    assert torch.equal(z1, copies[0]) and torch.equal(z2, copies[1])
    assert torch.equal(torch.get_rng_state(), state)
