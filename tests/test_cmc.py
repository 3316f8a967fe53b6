"""Lab color against scikit-image, the losses against their equations, the memory bank against its rule."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from skimage.color import rgb2lab

from callbacks.checkpointing.checkpoints import Checkpoints
from common.batch import Batch, BatchKey
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from ssl_modules.cmc import CMC
from ssl_modules.losses.multiview import bank_contrast, cross_modal, update_bank
from ssl_modules.networks.lab import rgb_to_lab
from ssl_modules.networks.lab_pair import LabPair
from ssl_modules.networks.resnet import ResNet
from tests.draws import draw_normal
from tests.errors import refused_in_one_line
from tests.methods import small_resnet, train

TEMPERATURE = 0.2
DEFAULTS = {"optimizer": torch.optim.AdamW, "out_dim": 8, "temperature": TEMPERATURE}


def color(*rgb):
    """One pixel, (1, 3, 1, 1)"""
    return torch.tensor(rgb).view(1, 3, 1, 1)


def cube(steps):
    """All colors of a grid from black to white, (1, 3, steps^2, steps)"""
    axis = torch.linspace(0, 1, steps)
    return torch.cartesian_prod(axis, axis, axis).T.reshape(1, 3, steps**2, steps)


# --- Lab


def test_lab_is_scikit_images():
    knees = torch.tensor([0.0, 1e-6, 1e-3, 0.04044, 0.04046, 0.0885, 0.0935, 1.0])  # of both curves
    around = torch.cartesian_prod(knees, knees, knees).T.reshape(1, 3, 64, 8)
    for rgb in (torch.rand(5, 3, 17, 9, generator=torch.Generator().manual_seed(0)), cube(9), around):
        expected = rgb2lab(rgb.double().numpy(), channel_axis=1)
        ours = rgb_to_lab(rgb)
        assert ours.shape == rgb.shape
        np.testing.assert_allclose(ours.double().numpy(), expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    "rgb, lab",
    [
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((1.0, 1.0, 1.0), (100, 0, 0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colors(rgb, lab):
    assert rgb_to_lab(color(*rgb)).flatten().tolist() == pytest.approx(lab, abs=0.01)


def test_the_ranges_of_the_docstring_are_those_of_all_colors():
    lab = rgb_to_lab(cube(18))
    low, high = (f((0, 2, 3)).tolist() for f in (lab.amin, lab.amax))
    assert low == pytest.approx([0, -86.2, -107.9], abs=0.1)
    assert high == pytest.approx([100, 98.3, 94.5], abs=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lab_is_float32_under_autocast_and_of_half_precision(dtype):
    rgb = torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(rgb_to_lab(rgb), rgb_to_lab(rgb.clone()))
        inside = rgb_to_lab(rgb)
    assert inside.dtype == torch.float32 and torch.equal(inside, rgb_to_lab(rgb))
    assert torch.equal(rgb_to_lab(rgb.to(dtype)), rgb_to_lab(rgb.to(dtype).float()))


@pytest.mark.parametrize("level", [0.0, 0.04045, 0.0895, 0.5, 1.0])
def test_gradients_are_finite_everywhere_and_lighter_is_lighter(level):
    rgb = torch.full((1, 3, 2, 2), level, requires_grad=True)
    rgb_to_lab(rgb).sum().backward()
    assert rgb.grad.isfinite().all()
    rgb.grad = None
    rgb_to_lab(rgb)[:, 0].sum().backward()
    assert (rgb.grad > 0).all()


# --- the encoder


def test_each_network_sees_its_own_of_lab_between_minus_one_and_one():
    luminance, chromaticity = LabPair().split_color(cube(18))
    assert luminance.shape[1] == 1 and chromaticity.shape[1] == 2
    both = torch.cat([luminance, chromaticity], dim=1)
    assert both.amin((0, 2, 3)).tolist() == pytest.approx([-1] * 3, abs=0.002)
    assert both.amax((0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=0.002)
    gray = torch.rand(2, 1, 4, 4)
    luminance, chromaticity = LabPair().split_color(gray.expand(-1, 3, -1, -1))
    assert (chromaticity.amax((2, 3)) - chromaticity.amin((2, 3))).max() < 1e-3
    assert torch.equal(luminance.flatten().argsort(), gray.flatten().argsort())


def test_features_and_maps_are_luminances_then_chromaticitys():
    encoder, view = LabPair(widths=[8, 16], blocks=[1, 1]).eval(), torch.rand(3, 3, 16, 16)
    luminance, chromaticity = encoder.encode_pair(view)
    assert torch.equal(encoder(view), torch.cat([luminance, chromaticity], dim=1))
    first, second = encoder.maps(view).chunk(2, dim=1)
    torch.testing.assert_close(first.mean((2, 3)), luminance, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second.mean((2, 3)), chromaticity, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", ["wide3", "resnet50"])
def test_half_width_is_as_wide_together_as_one_network(preset):
    one, full, half = ResNet(preset), LabPair(preset), LabPair(preset, half_width=True)
    assert full.dim == 2 * one.dim and half.dim == one.dim
    narrow = LabPair(widths=[8, 16], blocks=[1, 1], half_width=True)
    assert narrow.luminance.dim == narrow.chromaticity.dim == 8


def test_lab_is_float32_where_the_networks_are_not():
    encoder, view = LabPair(widths=[8], blocks=[1]), torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, features = encoder.split_color(view), encoder(view)
    assert features.dtype == torch.bfloat16
    for ours, exact in zip(inside, encoder.split_color(view), strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, exact)


# --- contrast within the batch


def pair(images=6, dim=5, spread=0.5):
    """Two modalities that resemble each other."""
    z1 = draw_normal(images, dim)
    return z1, z1 + spread * draw_normal(images, dim, seed=1)


def similarity(a, b):
    return a @ b / (a.norm() * b.norm())


def cross_modal_in_loops(z1, z2, temperature):
    """Each of one modality against all of the other, and the other way round, in float64."""
    loss, images = 0.0, len(z1)
    for anchors, others in ((z1.double(), z2.double()), (z2.double(), z1.double())):
        for i in range(images):
            scores = [(similarity(anchors[i], others[k]) / temperature).exp() for k in range(images)]
            loss = loss - (scores[i] / sum(scores)).log() / (2 * images)
    return loss


@pytest.mark.parametrize("images", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_in_batch_it_is_the_equation_and_so_is_its_gradient(images, temperature):
    ours, theirs = ([z.clone().requires_grad_() for z in pair(images)] for _ in range(2))
    loss, expected = cross_modal(*ours, temperature), cross_modal_in_loops(*theirs, temperature)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("images", [1, 4, 33])
def test_in_batch_known_value_when_all_look_alike(images):
    z = torch.ones(images, 3)
    assert cross_modal(z, z, 0.07).item() == pytest.approx(math.log(images), abs=1e-5)


def test_in_batch_roles_scale_and_order_do_not_matter():
    z1, z2 = pair()
    loss, shuffle = cross_modal(z1, z2, TEMPERATURE), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(cross_modal(z2, z1, TEMPERATURE), loss)
    torch.testing.assert_close(cross_modal(3 * z1, 0.1 * z2, TEMPERATURE), loss)
    torch.testing.assert_close(cross_modal(z1[shuffle], z2[shuffle], TEMPERATURE), loss)
    assert cross_modal(z1, z2.roll(1, 0), TEMPERATURE) > loss + 0.1


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_in_batch_the_mean_over_processes_is_the_whole_batch(world):
    whole, shards = ([z.clone().requires_grad_() for z in pair()] for _ in range(2))
    loss = cross_modal(*whole, TEMPERATURE)
    loss.backward()
    count = len(whole[0]) // world
    gradients, losses = [torch.zeros_like(z) for z in shards], []
    for first in range(0, len(whole[0]), count):
        z1, z2 = (z[first : first + count] for z in shards)
        losses.append(cross_modal(z1, z2, TEMPERATURE, candidates=tuple(shards), first=first))
        for total, part in zip(gradients, torch.autograd.grad(losses[-1], shards), strict=True):
            total += part / world  # as a mean over processes, which is what DDP takes
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    for gradient, z in zip(gradients, whole, strict=True):
        torch.testing.assert_close(gradient, z.grad, atol=1e-6, rtol=1e-5)


# --- contrast with the bank


def bank(images=20, dim=5):
    return F.normalize(draw_normal(2, images, dim, seed=2), dim=2)


INDEX, NEGATIVES = torch.tensor([4, 0, 19, 7, 11, 2]), torch.tensor([3, 3, 8, 7, 15, 11, 1, 19])


def bank_contrast_in_loops(z1, z2, bank, index, negatives, temperature):
    """Each projection against its image's entry of the other modality and the negatives' entries, in float64."""
    loss = 0.0
    for anchors, others in ((z1.double(), bank[1].double()), (z2.double(), bank[0].double())):
        for anchor, image in zip(anchors, index.tolist(), strict=True):
            rows = [image] + [row for row in negatives.tolist() if row != image]
            scores = [(similarity(anchor, others[row]) / temperature).exp() for row in rows]
            loss = loss - (scores[0] / sum(scores)).log() / (2 * len(index))
    return loss


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_with_a_bank_it_is_the_equation_and_so_is_its_gradient(temperature):
    ours, theirs = ([z.clone().requires_grad_() for z in pair()] for _ in range(2))
    loss = bank_contrast(*ours, bank(), INDEX, NEGATIVES, temperature)
    expected = bank_contrast_in_loops(*theirs, bank(), INDEX, NEGATIVES, temperature)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    gradients, expected = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


def test_with_a_bank_known_value_when_all_look_alike():
    z, alike = torch.ones(2, 3), F.normalize(torch.ones(2, 20, 3), dim=2)
    elsewhere, itself = (
        torch.tensor([5, 6, 7]),
        torch.tensor([5, 0, 7]),
    )  # image 0's entry is no negative of its own
    value = bank_contrast(z, z, alike, torch.tensor([0, 1]), elsewhere, 0.07).item()
    assert value == pytest.approx(math.log(4), abs=1e-5)
    value = bank_contrast(z, z, alike, torch.tensor([0, 1]), itself, 0.07).item()
    assert value == pytest.approx((math.log(3) + math.log(4)) / 2, abs=1e-5)


def test_with_a_bank_roles_scale_and_order_do_not_matter():
    (z1, z2), memory = pair(), bank()
    loss = bank_contrast(z1, z2, memory, INDEX, NEGATIVES, TEMPERATURE)
    shuffle = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(bank_contrast(z2, z1, memory.flip(0), INDEX, NEGATIVES, TEMPERATURE), loss)
    torch.testing.assert_close(bank_contrast(3 * z1, 9 * z2, memory, INDEX, NEGATIVES, TEMPERATURE), loss)
    shuffled = z1[shuffle], z2[shuffle], memory, INDEX[shuffle], NEGATIVES.flip(0)
    torch.testing.assert_close(bank_contrast(*shuffled, TEMPERATURE), loss)


@pytest.mark.parametrize("contrast", [cross_modal, bank_contrast])
def test_losses_are_float32_and_finite_whatever_comes(contrast):
    more = () if contrast is cross_modal else (bank(), INDEX, NEGATIVES)
    halves = [z.bfloat16() for z in pair()]
    exact = contrast(*(z.float() for z in halves), *more, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrast(*halves, *more, 0.07)
    assert loss.dtype == torch.float32 and torch.equal(loss, exact)
    for scale in (0, 1e-20, 1e15):
        z1, z2 = (z.mul(scale).requires_grad_() for z in pair())
        loss = contrast(z1, z2, *more, 0.01)
        loss.backward()
        assert loss.isfinite() and z1.grad.isfinite().all() and z2.grad.isfinite().all()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_bank_moves_by_its_rule_and_only_where_images_were_seen(momentum):
    (z1, z2), before, after = pair(), bank(), bank()
    update_bank(after, z1, z2, INDEX, momentum)
    for modality, z in enumerate((z1, z2)):
        for row, image in zip(z, INDEX.tolist(), strict=True):
            mixed = momentum * before[modality, image] + (1 - momentum) * row / row.norm()
            torch.testing.assert_close(after[modality, image], mixed / mixed.norm())
    unseen = [row for row in range(20) if row not in INDEX.tolist()]
    assert torch.equal(after[:, unseen], before[:, unseen])
    torch.testing.assert_close(after.norm(dim=2), torch.ones(2, 20))


# --- the method


def small(**options):
    torch.manual_seed(0)
    encoder = LabPair(widths=[8, 16], blocks=[1, 1], norm="group")
    return CMC(encoder=encoder, **(DEFAULTS | options))


def data(data_dir, batch_size=16, **options):
    recipe = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5)
    return Arrays(
        "tiny", data_dir=data_dir, views=[recipe], batch_size=batch_size, mean=[0.0], std=[1.0], **options
    )


def batch(images=12, key=7, seed=1):
    view = torch.rand(images, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Batch([view], torch.zeros(images).long(), torch.arange(images), BatchKey.single(key, images))


def test_the_step_contrasts_what_the_two_networks_project():
    method = small()
    out = method.training_step(batch(), 0)
    z1, z2 = (
        p(f) for p, f in zip(method.projectors, method.encoder.encode_pair(batch().views[0]), strict=True)
    )
    torch.testing.assert_close(out["loss"], cross_modal(z1, z2, TEMPERATURE))
    torch.testing.assert_close(out["projections"], torch.stack([z1, z2]).detach())


def test_the_step_reads_the_bank_and_what_follows_it_moves_the_bank():
    method = small(negatives=5, momentum=0.3)
    method.resize_bank(30)
    before, (views, labels, index, key) = method.bank.clone(), batch()
    loss = method.training_step(Batch(views, labels, index + 10, key), 0)["loss"]
    z1, z2 = (p(f) for p, f in zip(method.projectors, method.encoder.encode_pair(views[0]), strict=True))
    negatives = torch.randint(30, (5,), generator=key.generator())
    expected = bank_contrast(z1, z2, before, index + 10, negatives, TEMPERATURE)
    torch.testing.assert_close(loss, expected)
    assert torch.equal(method.bank, before)
    update_bank(before, z1, z2, index + 10, 0.3)
    method.on_after_backward()
    torch.testing.assert_close(method.bank, before)
    assert not method.bank.requires_grad


def test_the_same_key_draws_the_same_negatives_and_nothing_else():
    method, state = small(negatives=5), torch.get_rng_state()
    method.resize_bank(30)
    start, losses = copy.deepcopy(method.state_dict()), []
    for key in (7, 7, 8):
        method.load_state_dict(start)
        losses.append(method.training_step(batch(key=key), 0)["loss"].item())
    assert losses[0] == losses[1] != losses[2]
    state = torch.get_rng_state()
    method.training_step(batch(), 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_bank_has_a_row_per_training_image_and_updates_it(data_dir, tmp_path):
    method, images = small(negatives=16), data(data_dir)
    train(method, images, tmp_path, limit_train_batches=2)
    assert method.bank.shape == (2, len(images.datasets["train"]), 8)
    fresh = small(negatives=16)
    fresh.resize_bank(method.bank.shape[1])
    moved = (method.bank != fresh.bank).any(2)
    assert torch.equal(moved[0], moved[1]) and moved[0].sum() == 32


def test_the_bank_is_checkpointed_and_a_resumed_run_is_the_same(data_dir, tmp_path):
    whole = small(negatives=16)
    options = {"enable_checkpointing": True, "max_epochs": 2}
    train(whole, data(data_dir), tmp_path, callbacks=[Checkpoints(keep_every_n_epochs=1)], **options)
    path = tmp_path / "checkpoints" / "epoch=1.ckpt"
    saved = torch.load(path, weights_only=True)["state_dict"]["bank"]
    assert saved.shape == whole.bank.shape and not torch.equal(saved, whole.bank)
    resumed = small(negatives=16)
    again = {"callbacks": [Checkpoints()], "resume_from": path}
    trainer = train(resumed, data(data_dir), tmp_path / "again", **again, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    trainer.test(resumed, data(data_dir), ckpt_path=path, verbose=False, weights_only=True)
    assert torch.equal(resumed.bank, saved)


def test_a_checkpoint_of_other_training_images_is_refused_by_name(data_dir, tmp_path):
    method = small(negatives=16)
    trainer = train(method, data(data_dir), tmp_path)
    path = tmp_path / "other.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(MisconfigurationException, match=r"another shape \(bank\)"):
        trainer.test(small(negatives=16), data(data_dir, val_size=0.3), ckpt_path=path, weights_only=True)


def test_an_encoder_of_one_network_is_refused_in_one_line():
    with refused_in_one_line("LabPair"):
        CMC(**(DEFAULTS | {"encoder": small_resnet("batch")}))


def test_views_out_of_range_are_refused(data_dir, tmp_path):
    images = data(data_dir)
    images.mean, images.std = [0.5], [0.25]
    with pytest.raises(MisconfigurationException, match=r"needs views in \[0, 1\]"):
        train(small(), images, tmp_path)
