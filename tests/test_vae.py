"""The VAE: its loss is reconstruction and divergence, its luck its own, and what it generates is decoded draws."""

import pytest
import torch
from lightning.pytorch import Callback

from common.batch import Batch, BatchKey
from datamodules.arrays import Arrays
from ssl_modules.gaussians import reparameterize
from ssl_modules.losses.elbo import bernoulli_nll, kl_to_standard_normal
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.vae import VAEMLP, VAEConv
from ssl_modules.vae import VAE
from tests.draws import make_generator
from tests.errors import refused_in_one_line
from tests.methods import train
from tests.test_elbo import bernoulli_written_out, gaussian_written_out, kl_written_out


def small(norm="batch", **options) -> VAE:
    torch.manual_seed(0)
    encoder = VAEConv(16, width=8, stages=2, latent=6, norm=norm)
    return VAE(encoder=encoder, optimizer=torch.optim.AdamW, **options)


def images_and_labels(key=7):
    images = torch.rand(12, 3, 16, 16, generator=make_generator(1))
    return Batch([images], torch.arange(12) % 4, torch.arange(12), BatchKey.single(key, 12))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_loss_is_reconstruction_and_beta_times_divergence(likelihood):
    method, batch = small(likelihood=likelihood, sigma=0.3, beta=2.5).eval(), images_and_labels()
    images = batch.views[0]
    mean, log_variance = method.encoder.posterior(images)
    z = mean + (log_variance / 2).exp() * batch.key.randn(6)
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


def test_reconstructions_are_of_the_draw_or_in_validation_the_mean():
    method, batch = small("group"), images_and_labels()
    mean, log_variance = method.encoder.posterior(batch.views[0])
    z = reparameterize(mean, log_variance, batch.key.randn(6))
    out = method.training_step(batch, 0)
    torch.testing.assert_close(out["reconstructions"], method.decoder(z).sigmoid().detach())
    method.eval()
    out = method.validation_step(batch, 0)
    torch.testing.assert_close(out["reconstructions"], method.decoder(mean).sigmoid().detach())
    error = (method.decoder(z).sigmoid() - batch.views[0]).square().mean().detach()  # of the draw in both
    torch.testing.assert_close(out["metrics"]["mse"], error)


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
    kl = kl_to_standard_normal(*free.encoder.posterior(batch.views[0]))
    assert kl.mean(0).max() < 5
    a, b = (method.training_step(batch, 0) for method in (plain, free))
    torch.testing.assert_close(b["loss"] - a["loss"], 6 * 5 - kl.sum(1).mean(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(a["losses"], b["losses"])
    assert torch.equal(plain.validation_step(batch, 0)["loss"], free.validation_step(batch, 0)["loss"])


def test_without_beta_it_is_an_autoencoder_with_noise():
    method, batch = small(beta=0.0), images_and_labels()
    out = method.training_step(batch, 0)
    kl, reconstruction = (out["metrics"][name] for name in ("kl", "reconstruction"))
    assert kl > 0
    torch.testing.assert_close(out["loss"].detach(), reconstruction)


class Betas(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append(module.warmed_up_beta(batch_idx))


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
def test_it_learns_to_tell_colors_apart(encoder, data_dir, tmp_path):
    torch.manual_seed(0)
    options = {"hidden": 32} if encoder is VAEMLP else {"width": 8, "stages": 2}
    method = VAE(
        encoder=encoder(16, latent=4, **options), optimizer=lambda groups: torch.optim.Adam(groups, 1e-2)
    )
    trainer = train(method, tiny(data_dir), tmp_path, max_epochs=20)
    images = torch.cat(
        [
            method.trainer.datamodule.prepare_batch(batch, torch.device("cpu"), False).views[0]
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


def test_a_conditional_decoder_reads_the_class_the_encoder_does_not():
    method, (views, labels, index, key) = conditional(), images_and_labels()
    out = method.validation_step(Batch(views, labels, index, key), 0)
    other = method.validation_step(Batch(views, labels.flip(0), index, key), 0)
    assert torch.equal(out["features"], other["features"])
    changed = (out["reconstructions"] != other["reconstructions"]).flatten(1).any(1)
    assert torch.equal(changed, labels != labels.flip(0))


def test_without_a_label_the_condition_is_zero():
    method, z = conditional(), torch.randn(2, 6, generator=make_generator())
    labels = torch.tensor([3, -1])
    expected = torch.cat([z, torch.tensor([[0, 0, 0, 1.0], [0, 0, 0, 0]])], 1)
    torch.testing.assert_close(method.decode(z, labels), method.decoder(expected))
    assert torch.equal(method.decode(z), method.decode(z, torch.full((2,), -1)))


def test_a_plain_one_ignores_classes_that_the_data_have():
    assert small(num_classes=4).decoder[0].in_features == 6
    assert conditional().decoder[0].in_features == 6 + 4


def test_generated_images_are_decoded_draws_of_the_prior():
    method, state = small().eval(), torch.get_rng_state()
    images = method.generate(5, make_generator(3))
    expected = method.decoder(torch.randn(5, 6, generator=make_generator(3))).sigmoid()
    torch.testing.assert_close(images, expected.detach())
    assert images.shape == (5, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
    assert not images.requires_grad and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(images, method.generate(5, make_generator(4)))


def test_class_images_are_decoded_from_the_aggregate_posterior():
    method, ((images,), labels, *_) = small().eval(), images_and_labels()
    with torch.no_grad():
        gaussians = method.class_gaussians(*method.encoder.posterior(images), labels)
    assert list(gaussians) == [0, 1, 2, 3]
    expected = method.decoder(gaussians[2].sample(5, make_generator())).sigmoid()
    torch.testing.assert_close(method.generate(5, make_generator(), gaussians[2]), expected.detach())


def test_a_conditional_one_generates_the_class_asked_for():
    method, labels = conditional(), torch.tensor([0, 1])
    images = method.generate(2, make_generator(), labels=labels)
    z = torch.randn(2, 6, generator=make_generator())
    torch.testing.assert_close(images, method.decode(z, labels).sigmoid().detach())
    assert not torch.equal(images, method.generate(2, make_generator(), labels=labels.flip(0)))


# --- slips


@pytest.mark.parametrize(
    "options, named",
    [
        ({"conditional": True}, "conditional"),
        ({"encoder": ResNet(widths=[8], blocks=[1])}, "ResNet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_make_no_vae_are_refused_in_one_line(options, named):
    with refused_in_one_line("VAE", named):
        VAE(**({"encoder": VAEMLP(16, hidden=8, latent=2), "optimizer": torch.optim.AdamW} | options))


def test_views_outside_0_and_1_are_refused_in_one_line(data_dir, tmp_path):
    data = Arrays("tiny", data_dir=data_dir, batch_size=29, mean=[0.5], std=[0.25])
    with refused_in_one_line(r"VAE needs views in \[0, 1\]"):
        train(small(), data, tmp_path)
