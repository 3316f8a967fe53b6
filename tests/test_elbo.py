"""The bound that a VAE minimizes: each term is its equation, and what is drawn has the moments it should."""

import copy
import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from ssl_modules.gaussians import aggregate_posterior, class_gaussians, reparameterize
from ssl_modules.losses.elbo import bernoulli_nll, free_bits, gaussian_nll, kl_to_standard_normal
from tests.draws import make_generator


def make_gaussians(images=5, dim=3, dtype=torch.float32):
    """mean, log-variance"""
    return (torch.randn(images, dim, generator=make_generator(seed)).to(dtype) for seed in (0, 1))


def make_pictures(images=4, dtype=torch.float32):
    """What a decoder gives, any number, and images in [0, 1]"""
    outputs = 2 * torch.randn(images, 2, 3, 3, generator=make_generator())
    return outputs.to(dtype), torch.rand(images, 2, 3, 3, generator=make_generator(1)).to(dtype)


def kl_written_out(mean, log_variance):
    """Kingma & Welling 2013, appendix B: -(1 + log s^2 - m^2 - s^2) / 2, one component at a time."""
    return torch.stack([
        torch.stack([-(1 + v - m**2 - v.exp()) / 2 for m, v in zip(*rows, strict=True)])
        for rows in zip(mean, log_variance, strict=True)
    ])  # fmt: skip


def bernoulli_written_out(logits, images):
    """-(x log p + (1 - x) log(1 - p)), one pixel at a time."""
    losses = []
    for row, image in zip(logits.flatten(1), images.flatten(1), strict=True):
        p = [1 / (1 + (-value).exp()) for value in row]
        losses.append(-sum(x * q.log() + (1 - x) * (1 - q).log() for q, x in zip(p, image, strict=True)))
    return torch.stack(losses)


def gaussian_written_out(mean, images, sigma=0.3):
    """-log of exp(-(x - m)^2 / 2 s^2) / (s sqrt(2 pi)), one pixel at a time."""
    losses = []
    for row, image in zip(mean.flatten(1), images.flatten(1), strict=True):
        peak = 1 / (sigma * math.sqrt(2 * math.pi))
        density = [peak * (-((x - m) ** 2) / (2 * sigma**2)).exp() for m, x in zip(row, image, strict=True)]
        losses.append(-sum(d.log() for d in density))
    return torch.stack(losses)


def free_bits_written_out(kl, floor=0.4):
    total = kl.new_zeros(())
    for j in range(kl.shape[1]):
        mean = sum(kl[i, j] for i in range(len(kl))) / len(kl)
        total = total + (mean if mean > floor else floor)
    return total


def make_divergences(dtype=torch.float32):
    return (torch.rand(6, 5, generator=make_generator()).to(dtype) * torch.arange(5) / 3,)


def free_bits_at_floor(kl):
    return free_bits(kl, 0.4)


def narrow_gaussian_nll(mean, images):
    return gaussian_nll(mean, images, 0.3)


LOSSES = {  # name: (ours, the equation, inputs of a dtype)
    "kl": (kl_to_standard_normal, kl_written_out, lambda dtype: make_gaussians(dtype=dtype)),
    "bernoulli": (bernoulli_nll, bernoulli_written_out, lambda dtype: make_pictures(dtype=dtype)),
    "gaussian": (narrow_gaussian_nll, gaussian_written_out, lambda dtype: make_pictures(dtype=dtype)),
    "free bits": (free_bits_at_floor, free_bits_written_out, make_divergences),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def test_a_loss_and_its_gradient_are_those_of_the_equation(loss):
    ours, equation, inputs = loss
    single, double = ([t.requires_grad_() for t in inputs(d)] for d in (torch.float32, torch.float64))
    value, expected = ours(*single), equation(*double)
    assert value.dtype == torch.float32 and value.shape == expected.shape
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(value.shape, generator=make_generator(2), dtype=torch.float64)
    gradients = torch.autograd.grad((value * weight).sum(), single)
    for gradient, other in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), double), strict=True
    ):
        torch.testing.assert_close(gradient.double(), other, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_finite_differences(loss):
    ours, _, inputs = loss
    numbers = [t.requires_grad_() for t in inputs(torch.float64)]  # computed in float32: a wide step
    assert torch.autograd.gradcheck(ours, numbers, eps=1e-2, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(loss, dtype):
    ours, _, inputs = loss
    halves = list(inputs(dtype))
    value = ours(*halves)
    assert value.dtype == torch.float32 and torch.equal(value, ours(*(t.float() for t in halves)))


def test_autocast_changes_no_bit_and_nothing_is_drawn(loss):
    ours, _, inputs = loss
    numbers, state = list(inputs(torch.float32)), torch.get_rng_state()
    copies = copy.deepcopy(numbers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ours(*numbers)
    assert torch.equal(value, ours(*copies)) and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(numbers, copies, strict=True))


def test_the_order_of_the_images_is_the_order_of_their_losses(loss):
    ours, _, inputs = loss
    numbers = list(inputs(torch.float32))
    shuffle = torch.randperm(len(numbers[0]), generator=make_generator())
    value, shuffled = ours(*numbers), ours(*(t[shuffle] for t in numbers))
    torch.testing.assert_close(shuffled, value[shuffle] if value.ndim else value)


# --- known values


def test_kl_is_zero_at_mean_0_and_sigma_1_and_nowhere_else():
    zero = torch.zeros(4, 7)
    assert torch.equal(kl_to_standard_normal(zero, zero), zero)
    assert (kl_to_standard_normal(*make_gaussians(100)) > 0).all()


def test_kl_is_that_of_torch_distributions():
    mean, log_variance = make_gaussians(50)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_known_values_and_its_mirror():
    mean, log_variance = torch.tensor([[3.0, -3.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0, -2.0]])
    expected = torch.tensor([[4.5, 4.5, (math.e**2 - 3) / 2, (math.e**-2 + 1) / 2]])
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_is_exact_where_the_posterior_is_almost_the_prior():
    tiny = torch.full((1, 1), 1e-3)
    expected = kl_written_out(torch.zeros(1, 1).double(), tiny.double()).float()
    torch.testing.assert_close(kl_to_standard_normal(torch.zeros(1, 1), tiny), expected, atol=0, rtol=1e-3)


def test_kl_and_draw_are_finite_for_a_wide_and_a_narrow_posterior():
    log_variance = torch.tensor([[-100.0, -30.0, 30.0, 80.0]], requires_grad=True)
    loss = kl_to_standard_normal(torch.zeros(1, 4), log_variance).sum()
    (loss + reparameterize(torch.zeros(1, 4), log_variance, torch.ones(1, 4)).sum()).backward()
    assert loss.isfinite() and log_variance.grad.isfinite().all()


def test_bernoulli_is_that_of_torch_distributions():
    logits, images = make_pictures()
    expected = -Bernoulli(logits=logits).log_prob(images.round()).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(logits, images.round()), expected)
    assert bernoulli_nll(torch.zeros(1, 2, 3, 3), images[:1]).item() == pytest.approx(18 * math.log(2))


def test_bernoulli_is_least_where_probabilities_are_the_pixels():
    logits, images = make_pictures()
    torch.testing.assert_close(bernoulli_nll(-logits, 1 - images), bernoulli_nll(logits, images))
    best = bernoulli_nll(images.logit(), images)
    assert (best > 0).all() and (best < bernoulli_nll(images.logit() + 0.1, images)).all()


def test_bernoulli_is_finite_for_any_logit():
    logits = torch.tensor([-1e4, 1e4]).reshape(2, 1, 1, 1).requires_grad_()
    bernoulli_nll(logits, torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)).sum().backward()
    assert logits.grad.flatten().tolist() == [-1, 1]


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_gaussian_is_that_of_torch_distributions(sigma):
    mean, images = make_pictures()
    expected = -Normal(mean, sigma).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_nll(mean, images, sigma), expected)


def test_free_bits_of_nothing_is_the_mean_divergence_of_an_image():
    kl = kl_to_standard_normal(*make_gaussians())
    torch.testing.assert_close(free_bits(kl, 0.0), kl.sum(1).mean())


def test_free_bits_cost_nothing_below_the_floor():
    kl = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.6, 3.0]], requires_grad=True)  # means 0.2, 0.4, 2
    loss = free_bits(kl, 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3 + 0.4 + 2)
    assert kl.grad.tolist() == [[0, 0.5, 0.5], [0, 0.5, 0.5]]


# --- Gaussians


def test_a_draw_is_mean_and_scaled_noise_and_passes_gradients():
    mean, log_variance = (t.requires_grad_() for t in make_gaussians())
    noise = torch.randn(5, 3, generator=make_generator(4))
    z = reparameterize(mean, log_variance, noise)
    torch.testing.assert_close(z, mean + (log_variance / 2).exp() * noise)
    by_mean, by_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert torch.equal(by_mean, torch.ones(5, 3))
    torch.testing.assert_close(by_log_variance, noise * (log_variance / 2).exp() / 2)
    assert reparameterize(mean.bfloat16(), log_variance, noise).dtype == torch.float32


def test_draws_have_the_moments_of_the_posterior():
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, math.log(9)]])
    noise = torch.randn(200_000, 2, generator=make_generator())
    z = reparameterize(mean.expand(200_000, -1), log_variance.expand(200_000, -1), noise)
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 3.0]), atol=0.03, rtol=0)


def test_the_aggregate_has_mean_and_covariance_of_the_mixture():
    mean, log_variance = make_gaussians(7, 3, torch.float64)
    center, second = sum(mean) / 7, torch.zeros(3, 3).double()
    for m, v in zip(mean, log_variance, strict=True):  # E[z z^T] of each posterior
        second += (torch.outer(m, m) + v.exp().diag()) / 7
    gaussian = aggregate_posterior(mean, log_variance)
    torch.testing.assert_close(gaussian.mean.double(), center, atol=1e-6, rtol=1e-5)
    covariance = (gaussian.factor @ gaussian.factor.T).double()
    torch.testing.assert_close(covariance, second - torch.outer(center, center), atol=1e-5, rtol=1e-5)
    assert torch.equal(gaussian.factor, gaussian.factor.tril())


def test_samples_of_the_aggregate_have_the_moments_of_draws():
    mean, log_variance = make_gaussians(4, 3)
    ours = aggregate_posterior(mean, log_variance).sample(200_000, make_generator())
    noise = torch.randn(200_000, mean.shape[1], generator=make_generator(1))
    theirs = reparameterize(mean.repeat(50_000, 1), log_variance.repeat(50_000, 1), noise)
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(ours.T.cov(), theirs.T.cov(), atol=0.05, rtol=0.02)


def test_the_aggregate_of_one_image_is_its_posterior():
    mean, log_variance = make_gaussians(1, 64)
    gaussian = aggregate_posterior(mean, log_variance)
    assert torch.equal(gaussian.mean, mean[0])
    torch.testing.assert_close(gaussian.factor, (log_variance[0] / 2).exp().diag())


def test_each_class_has_the_aggregate_of_its_own_images():
    mean, log_variance = make_gaussians(6)
    labels = torch.tensor([2, -1, 0, 2, -1, 2])
    by_class = class_gaussians(mean, log_variance, labels)
    assert list(by_class) == [0, 2]
    for label, rows in {0: [2], 2: [0, 3, 5]}.items():
        expected = aggregate_posterior(mean[rows], log_variance[rows])
        assert all(torch.equal(a, b) for a, b in zip(by_class[label], expected, strict=True))
