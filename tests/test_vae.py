"""The VAE: its losses are the equations, its draws have the moments they should, its networks are those asked for."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from datamodules.arrays import Arrays
from ssl_modules.gaussians import aggregate, class_gaussians, draw
from ssl_modules.losses.elbo import bernoulli_nll, free_bits, gaussian_nll, kl_to_standard_normal
from ssl_modules.networks.conv import Conv2d
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.vae import VAEMLP, ResidualBlock, VAEConv
from ssl_modules.vae import VAE
from tests.methods import train


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussians(images=5, dim=3, dtype=torch.float32):
    """mean, log-variance"""
    return (torch.randn(images, dim, generator=seeded(seed)).to(dtype) for seed in (0, 1))


def pictures(images=4, dtype=torch.float32):
    """What a decoder gives, any number, and images in [0, 1]"""
    outputs = 2 * torch.randn(images, 2, 3, 3, generator=seeded())
    return outputs.to(dtype), torch.rand(images, 2, 3, 3, generator=seeded(1)).to(dtype)


# --- the losses, written out in loops and float64


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


def divergences(dtype=torch.float32):
    return (torch.rand(6, 5, generator=seeded()).to(dtype) * torch.arange(5) / 3,)


def floored(kl):
    return free_bits(kl, 0.4)


def narrow(mean, images):
    return gaussian_nll(mean, images, 0.3)


LOSSES = {  # name: (ours, the equation, inputs of a dtype)
    "kl": (kl_to_standard_normal, kl_written_out, lambda dtype: gaussians(dtype=dtype)),
    "bernoulli": (bernoulli_nll, bernoulli_written_out, lambda dtype: pictures(dtype=dtype)),
    "gaussian": (narrow, gaussian_written_out, lambda dtype: pictures(dtype=dtype)),
    "free bits": (floored, free_bits_written_out, divergences),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def test_it_is_the_equation_and_so_is_its_gradient(loss):
    ours, equation, inputs = loss
    single, double = ([t.requires_grad_() for t in inputs(d)] for d in (torch.float32, torch.float64))
    value, expected = ours(*single), equation(*double)
    assert value.dtype == torch.float32 and value.shape == expected.shape
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(value.shape, generator=seeded(2), dtype=torch.float64)
    gradients = torch.autograd.grad((value * weight).sum(), single)
    for gradient, other in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), double), strict=True
    ):
        torch.testing.assert_close(gradient.double(), other, atol=1e-5, rtol=1e-4)


def test_gradcheck(loss):
    ours, _, inputs = loss
    numbers = [t.requires_grad_() for t in inputs(torch.float64)]  # computed in float32: a wide step
    assert torch.autograd.gradcheck(ours, numbers, eps=1e-2, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(loss, dtype):
    ours, _, inputs = loss
    halves = list(inputs(dtype))
    value = ours(*halves)
    assert value.dtype == torch.float32 and torch.equal(value, ours(*(t.float() for t in halves)))


def test_autocast_changes_not_one_bit_inputs_stay_and_nothing_is_drawn(loss):
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
    shuffle = torch.randperm(len(numbers[0]), generator=seeded())
    value, shuffled = ours(*numbers), ours(*(t[shuffle] for t in numbers))
    torch.testing.assert_close(shuffled, value[shuffle] if value.ndim else value)


# --- known values


def test_kl_is_zero_at_mean_0_and_sigma_1_and_nowhere_else():
    zero = torch.zeros(4, 7)
    assert torch.equal(kl_to_standard_normal(zero, zero), zero)
    assert (kl_to_standard_normal(*gaussians(100)) > 0).all()


def test_kl_is_that_of_torch_distributions():
    mean, log_variance = gaussians(50)
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
    (loss + draw(torch.zeros(1, 4), log_variance, seeded()).sum()).backward()
    assert loss.isfinite() and log_variance.grad.isfinite().all()


def test_bernoulli_is_that_of_torch_distributions_and_counts_every_pixel():
    logits, images = pictures()
    expected = -Bernoulli(logits=logits).log_prob(images.round()).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(logits, images.round()), expected)
    assert bernoulli_nll(torch.zeros(1, 2, 3, 3), images[:1]).item() == pytest.approx(18 * math.log(2))


def test_bernoulli_is_the_same_for_the_negative_and_least_where_the_probabilities_are_the_pixels():
    logits, images = pictures()
    torch.testing.assert_close(bernoulli_nll(-logits, 1 - images), bernoulli_nll(logits, images))
    best = bernoulli_nll(images.logit(), images)
    assert (best > 0).all() and (best < bernoulli_nll(images.logit() + 0.1, images)).all()


def test_bernoulli_is_finite_for_any_logit():
    logits = torch.tensor([-1e4, 1e4]).reshape(2, 1, 1, 1).requires_grad_()
    bernoulli_nll(logits, torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)).sum().backward()
    assert logits.grad.flatten().tolist() == [-1, 1]


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_gaussian_is_that_of_torch_distributions(sigma):
    mean, images = pictures()
    expected = -Normal(mean, sigma).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_nll(mean, images, sigma), expected)


def test_free_bits_of_nothing_is_the_mean_divergence_of_an_image():
    kl = kl_to_standard_normal(*gaussians())
    torch.testing.assert_close(free_bits(kl, 0.0), kl.sum(1).mean())


def test_below_the_floor_information_costs_nothing_and_above_it_its_price():
    kl = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.6, 3.0]], requires_grad=True)  # means 0.2, 0.4, 2
    loss = free_bits(kl, 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3 + 0.4 + 2)
    assert kl.grad.tolist() == [[0, 0.5, 0.5], [0, 0.5, 0.5]]


# --- Gaussians


def test_a_draw_is_the_mean_and_noise_in_units_of_sigma_and_lets_gradients_through():
    mean, log_variance = (t.requires_grad_() for t in gaussians())
    noise = torch.randn(5, 3, generator=seeded(4))
    z = draw(mean, log_variance, seeded(4))
    torch.testing.assert_close(z, mean + (log_variance / 2).exp() * noise)
    by_mean, by_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert torch.equal(by_mean, torch.ones(5, 3))
    torch.testing.assert_close(by_log_variance, noise * (log_variance / 2).exp() / 2)
    assert draw(mean.bfloat16(), log_variance, seeded(4)).dtype == torch.float32


def test_draws_have_the_moments_of_the_posterior():
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, math.log(9)]])
    z = draw(mean.expand(200_000, -1), log_variance.expand(200_000, -1), seeded())
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 3.0]), atol=0.03, rtol=0)


def test_the_aggregate_has_mean_and_covariance_of_the_mixture():
    mean, log_variance = gaussians(7, 3, torch.float64)
    centre, second = sum(mean) / 7, torch.zeros(3, 3).double()
    for m, v in zip(mean, log_variance, strict=True):  # E[z z^T] of each posterior
        second += (torch.outer(m, m) + v.exp().diag()) / 7
    found = aggregate(mean, log_variance)
    torch.testing.assert_close(found.mean.double(), centre, atol=1e-6, rtol=1e-5)
    covariance = (found.factor @ found.factor.T).double()
    torch.testing.assert_close(covariance, second - torch.outer(centre, centre), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.factor, found.factor.tril())


def test_what_the_aggregate_draws_has_the_moments_of_draws_from_the_posteriors():
    mean, log_variance = gaussians(4, 3)
    ours = aggregate(mean, log_variance).draw(200_000, seeded())
    theirs = draw(mean.repeat(50_000, 1), log_variance.repeat(50_000, 1), seeded(1))
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(ours.T.cov(), theirs.T.cov(), atol=0.05, rtol=0.02)


def test_the_aggregate_of_one_image_is_its_posterior_however_many_latents():
    mean, log_variance = gaussians(1, 64)
    found = aggregate(mean, log_variance)
    assert torch.equal(found.mean, mean[0])
    torch.testing.assert_close(found.factor, (log_variance[0] / 2).exp().diag())


def test_each_class_has_the_aggregate_of_its_own_images():
    mean, log_variance = gaussians(6)
    labels = torch.tensor([2, -1, 0, 2, -1, 2])
    found = class_gaussians(mean, log_variance, labels)
    assert list(found) == [0, 2]
    for label, rows in {0: [2], 2: [0, 3, 5]}.items():
        expected = aggregate(mean[rows], log_variance[rows])
        assert all(torch.equal(a, b) for a, b in zip(found[label], expected, strict=True))


# --- networks


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


NETWORKS = {
    "mlp": lambda **options: VAEMLP(64, **options),
    "conv": lambda **options: VAEConv(64, **options),
    "residual": lambda **options: VAEConv(64, residual=True, **options),
}


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_becomes_512_numbers_and_an_image_again(name, in_channels, conditions):
    encoder = NETWORKS[name](in_channels=in_channels).eval()
    images = torch.rand(2, in_channels, 64, 64, generator=seeded())
    mean, log_variance = encoder.posterior(images)
    assert mean.shape == log_variance.shape == (2, 512) and encoder.dim == 512 and not encoder.pooled
    assert torch.equal(encoder(images), mean) and not torch.equal(mean, log_variance)
    z = torch.cat([mean, torch.zeros(2, conditions)], 1)
    assert encoder.decoder(conditions).eval()(z).shape == images.shape


def test_the_mlp_has_512_hidden_units_both_ways():
    encoder, pixels = VAEMLP(64), 3 * 64 * 64
    assert count(encoder) == pixels * 512 + 512 + 512 * 1024 + 1024
    assert count(encoder.decoder()) == 512 * 512 + 512 + 512 * pixels + pixels


@pytest.mark.parametrize("residual", [False, True])
def test_five_convolutions_4x4_start_at_32_filters_and_double_and_so_back(residual):
    encoder = VAEConv(64, residual=residual)
    decoder = encoder.decoder()
    for net, kind, widths in [
        (encoder, Conv2d, [3, 32, 64, 128, 256, 512]),
        (decoder, nn.ConvTranspose2d, [512, 256, 128, 64, 32, 3]),
    ]:
        layers = [m for m in net.modules() if isinstance(m, kind) and m.kernel_size == (4, 4)]
        assert [m.in_channels for m in layers] == widths[:-1]
        assert [m.out_channels for m in layers] == widths[1:]
        assert all((m.stride, m.padding) == ((2, 2), (1, 1)) for m in layers)
        blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
        assert len(blocks) == (5 if residual else 0)
        slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
        assert len(slopes) == (15 if residual else 5) and set(slopes) == {0.2}
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == len(slopes)
    assert encoder.maps(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_parameters_of_the_convolutions_by_formula():
    widths = [3, 32, 64, 128, 256, 512]
    kernels = sum(16 * a * b for a, b in pairwise(widths))
    norms, blocks = 2 * sum(widths[1:]), sum(2 * 9 * c * c + 4 * c for c in widths[1:])
    encoder = kernels + norms + 4 * 512 * 1024 + 1024
    decoder = 512 * 2048 + kernels + norms + 3
    assert (count(VAEConv(64)), count(VAEConv(64).decoder())) == (encoder, decoder)
    deep = VAEConv(64, residual=True)
    assert (count(deep), count(deep.decoder())) == (encoder + blocks, decoder + blocks)


def test_a_residual_block_whose_last_norm_is_zero_changes_nothing_positive():
    block = ResidualBlock(8, "batch")
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 8, 4, 4, generator=seeded())
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("size, stages", [(28, 5), (48, 5), (16, 5), (31, 1), (0, 1), (32, 0)])
def test_a_side_that_does_not_halve_evenly_is_refused_in_one_line(size, stages):
    with pytest.raises(MisconfigurationException) as error:
        VAEConv(size, stages=stages)
    assert "VAEConv" in str(error.value) and str(size) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (3, 16, 32)])
@pytest.mark.parametrize("encoder", [VAEMLP(16), VAEConv(16, stages=2)], ids=["mlp", "conv"])
def test_images_of_another_shape_are_refused_in_one_line(encoder, shape):
    with pytest.raises(MisconfigurationException, match="3x16x16") as error:
        encoder(torch.zeros(2, *shape))
    assert "x".join(map(str, shape)) in str(error.value) and "\n" not in str(error.value)


# --- the method


def small(norm="batch", **options) -> VAE:
    torch.manual_seed(0)
    encoder = VAEConv(16, width=8, stages=2, latent=6, norm=norm)
    return VAE(encoder=encoder, optimizer=torch.optim.AdamW, **options)


def images_and_labels(key=7):
    images = torch.rand(12, 3, 16, 16, generator=seeded(1))
    return [images], torch.arange(12) % 4, torch.arange(12), key


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_loss_is_reconstruction_and_beta_times_divergence_of_one_draw(likelihood):
    method, batch = small(likelihood=likelihood, sigma=0.3, beta=2.5).eval(), images_and_labels()
    ((images,), *_) = batch
    mean, log_variance = method.encoder.posterior(images)
    z = mean + (log_variance / 2).exp() * torch.randn(12, 6, generator=method.noise(7))
    outputs = method.decoder(z)
    if likelihood == "bernoulli":
        errors = bernoulli_written_out(outputs.double(), images.double())
    else:
        errors = gaussian_written_out(outputs.double().sigmoid(), images.double())
    losses = errors + 2.5 * kl_written_out(mean.double(), log_variance.double()).sum(1)
    for out in (method.training_step(batch, 0), method.validation_step(batch, 0)):
        torch.testing.assert_close(out["losses"].double(), losses.detach(), atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(out["loss"].double(), losses.mean(), atol=1e-3, rtol=1e-5)
        assert torch.equal(out["features"], mean.detach()) and torch.equal(out["targets"], images)


def test_reconstructions_are_of_the_draw_in_training_and_of_the_mean_in_validation():
    method, batch = small("group"), images_and_labels()
    mean, log_variance = method.encoder.posterior(batch[0][0])
    z = draw(mean, log_variance, method.noise(7))
    out = method.training_step(batch, 0)
    torch.testing.assert_close(out["reconstructions"], method.decoder(z).sigmoid().detach())
    method.eval()
    out = method.validation_step(batch, 0)
    torch.testing.assert_close(out["reconstructions"], method.decoder(mean).sigmoid().detach())


def test_a_step_draws_from_its_key_alone():
    losses = []
    for key, seed in [(7, 0), (7, 1), (8, 0)]:
        method = small()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        losses.append(method.training_step(images_and_labels(key), 0)["loss"])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_free_bits_count_in_training_and_not_in_validation():
    plain, free = (small(free_bits=floor).eval() for floor in (0.0, 5.0))
    batch = images_and_labels()
    kl = kl_to_standard_normal(*free.encoder.posterior(batch[0][0]))
    assert kl.mean(0).max() < 5
    a, b = (method.training_step(batch, 0) for method in (plain, free))
    torch.testing.assert_close(b["loss"] - a["loss"], 6 * 5 - kl.sum(1).mean(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(a["losses"], b["losses"])
    assert torch.equal(plain.validation_step(batch, 0)["loss"], free.validation_step(batch, 0)["loss"])


def test_without_beta_it_is_an_autoencoder_with_noise():
    method, batch = small(beta=0.0), images_and_labels()
    out = method.training_step(batch, 0)
    kl, reconstruction = (method.means[f"train/{name}"].compute() for name in ("kl", "reconstruction"))
    assert kl > 0
    torch.testing.assert_close(out["loss"].detach(), reconstruction)


class Betas(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append(module.present_beta(batch_idx))


def tiny(data_dir, **options):
    """Three training batches an epoch."""
    return Arrays("tiny", data_dir=data_dir, batch_size=29, mean=[0.0], std=[1.0], **options)


@pytest.mark.parametrize(
    "epochs, expected", [(0, [3] * 6), (1, [0, 1, 2, 3, 3, 3]), (3, [0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])]
)
def test_beta_warms_up_linearly(epochs, expected, data_dir, tmp_path):
    betas = Betas()
    train(
        small(beta=3.0, beta_warmup_epochs=epochs), tiny(data_dir), tmp_path, callbacks=[betas], max_epochs=2
    )
    assert betas.seen == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_reconstruction_and_divergence_are_logged_apart_and_add_up(precision, data_dir, tmp_path):
    method = small(beta=2.0)
    trainer = train(method, tiny(data_dir), tmp_path, precision=precision, max_epochs=2, log_every_n_steps=1)
    logged = trainer.callback_metrics
    for split in ("train", "val"):
        total = logged[f"{split}/reconstruction"] + 2 * logged[f"{split}/kl"]
        torch.testing.assert_close(logged[f"{split}/loss"], total, atol=1e-2, rtol=1e-5)
    step = logged["train/reconstruction_step"] + 2 * logged["train/kl_step"]
    torch.testing.assert_close(logged["train/loss_step"], step, atol=1e-2, rtol=1e-5)


@pytest.mark.parametrize("encoder", [VAEMLP, VAEConv], ids=["mlp", "conv"])
def test_it_learns_to_tell_colours_apart(encoder, data_dir, tmp_path):
    torch.manual_seed(0)
    options = {"hidden": 32} if encoder is VAEMLP else {"width": 8, "stages": 2}
    method = VAE(
        encoder=encoder(16, latent=4, **options), optimizer=lambda groups: torch.optim.Adam(groups, 1e-2)
    )
    trainer = train(method, tiny(data_dir), tmp_path, max_epochs=20)
    images = torch.cat(
        [
            method.trainer.datamodule.prepare(batch, torch.device("cpu"), False)[0][0]
            for batch in trainer.datamodule.val_dataloader()
        ]
    )
    blind = bernoulli_nll(images.mean(0).logit().expand_as(images), images).mean()
    logged = trainer.callback_metrics
    assert logged["val/loss"] < blind - 5 and logged["val/kl"] > 1


# --- a conditional one, and generation


def conditional() -> VAE:
    method = small(conditional=True, num_classes=4)
    return method.eval()


def test_a_conditional_decoder_reads_the_class_and_the_encoder_does_not():
    method, (views, labels, index, key) = conditional(), images_and_labels()
    out = method.validation_step((views, labels, index, key), 0)
    other = method.validation_step((views, labels.flip(0), index, key), 0)
    assert torch.equal(out["features"], other["features"])
    changed = (out["reconstructions"] != other["reconstructions"]).flatten(1).any(1)
    assert torch.equal(changed, labels != labels.flip(0))


def test_without_a_label_the_condition_is_zero():
    method, z = conditional(), torch.randn(2, 6, generator=seeded())
    labels = torch.tensor([3, -1])
    expected = torch.cat([z, torch.tensor([[0, 0, 0, 1.0], [0, 0, 0, 0]])], 1)
    torch.testing.assert_close(method.decode(z, labels), method.decoder(expected))
    assert torch.equal(method.decode(z), method.decode(z, torch.full((2,), -1)))


def test_a_plain_one_ignores_classes_that_the_data_have():
    assert small(num_classes=4).decoder[0].in_features == 6
    assert conditional().decoder[0].in_features == 6 + 4


def test_generated_images_are_decoded_draws_of_the_prior():
    method, state = small().eval(), torch.get_rng_state()
    images = method.generate(5, seeded(3))
    expected = method.decoder(torch.randn(5, 6, generator=seeded(3))).sigmoid()
    torch.testing.assert_close(images, expected.detach())
    assert images.shape == (5, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
    assert not images.requires_grad and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(images, method.generate(5, seeded(4)))


def test_images_of_a_class_are_decoded_draws_of_its_aggregate_posterior():
    method, ((images,), labels, *_) = small().eval(), images_and_labels()
    with torch.no_grad():
        found = method.class_gaussians(*method.encoder.posterior(images), labels)
    assert list(found) == [0, 1, 2, 3]
    expected = method.decoder(found[2].draw(5, seeded())).sigmoid()
    torch.testing.assert_close(method.generate(5, seeded(), found[2]), expected.detach())


def test_a_conditional_one_generates_the_class_asked_for():
    method, labels = conditional(), torch.tensor([0, 1])
    images = method.generate(2, seeded(), labels=labels)
    z = torch.randn(2, 6, generator=seeded())
    torch.testing.assert_close(images, method.decode(z, labels).sigmoid().detach())
    assert not torch.equal(images, method.generate(2, seeded(), labels=labels.flip(0)))


# --- slips


@pytest.mark.parametrize(
    "options, named",
    [
        ({"conditional": True}, "conditional"),
        ({"beta": -1.0}, "beta -1"),
        ({"sigma": 0.0}, "sigma 0"),
        ({"free_bits": -0.5}, "free_bits -0.5"),
        ({"beta_warmup_epochs": -2.0}, "beta_warmup_epochs -2"),
        ({"encoder": ResNet(widths=[8], blocks=[1])}, "ResNet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_make_no_vae_are_refused_in_one_line(options, named):
    with pytest.raises(MisconfigurationException) as error:
        VAE(**({"encoder": VAEMLP(16, hidden=8, latent=2), "optimizer": torch.optim.AdamW} | options))
    assert "VAE" in str(error.value) and named in str(error.value) and "\n" not in str(error.value)


def test_views_outside_0_and_1_are_refused_in_one_line(data_dir, tmp_path):
    data = Arrays("tiny", data_dir=data_dir, batch_size=29, mean=[0.5], std=[0.25])
    with pytest.raises(MisconfigurationException, match=r"VAE needs views in \[0, 1\]") as error:
        train(small(), data, tmp_path)
    assert "\n" not in str(error.value)
