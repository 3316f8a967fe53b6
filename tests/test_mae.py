"""MAE: the loss is the mean over hidden patches alone, steps hide what the key says, pictures show what was given."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from callbacks.figures.reconstructions import Reconstructions
from common.batch import Batch, BatchKey
from ssl_modules.losses.mae import hidden_patch_losses, restore_patches, standardize_patches
from ssl_modules.networks.patches import cut_patches, draw_kept_patches, fill_hidden
from ssl_modules.networks.resnet import ResNet
from tests.draws import draw_normal
from tests.errors import refused_in_one_line
from tests.figure_runs import find_case, fit_case, read_figure, read_last_metrics
from tests.methods import build

MAE = find_case("MAE")
KEEP = torch.tensor([[0, 3], [1, 2], [4, 5]])  # of six patches


def standardize_in_loops(patches: Tensor) -> Tensor:
    """(B, N, P) less the mean of each patch, by its standard deviation, one number at a time."""
    rows = []
    for patch in patches.flatten(0, 1):
        mean = sum(patch) / len(patch)
        variance = sum((x - mean) ** 2 for x in patch) / (len(patch) - 1)  # as in the authors' code
        rows.append(torch.stack([(x - mean) / (variance + 1e-6).sqrt() for x in patch]))
    return torch.stack(rows).view_as(patches)


def mae_in_loops(predictions: Tensor, targets: Tensor, keep: Tensor) -> Tensor:
    """The error of section 3 of the paper, one pixel of one hidden patch at a time, in float64: (B,)"""
    losses = []
    for predicted, wanted, kept in zip(predictions.double(), targets.double(), keep.tolist(), strict=True):
        hidden = [n for n in range(len(wanted)) if n not in kept]
        errors = [(predicted[n, k] - wanted[n, k]) ** 2 for n in hidden for k in range(wanted.shape[1])]
        losses.append(sum(errors) / len(errors))
    return torch.stack(losses)


# --- the loss


def test_mae_and_its_gradient_are_the_papers_error():
    ours, targets = draw_normal(3, 6, 5).requires_grad_(), draw_normal(3, 6, 5, seed=1)
    theirs = ours.detach().double().requires_grad_()
    losses, expected = hidden_patch_losses(ours, targets, KEEP), mae_in_loops(theirs, targets, KEEP)
    torch.testing.assert_close(losses.double(), expected, atol=1e-6, rtol=1e-5)
    losses.mean().backward(), expected.mean().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-7, rtol=1e-5)
    for image, kept in enumerate(KEEP.tolist()):
        assert ours.grad[image, kept].abs().sum() == 0


def test_targets_are_standardized_as_by_hand_and_restored():
    patches = 3 * draw_normal(2, 4, 6) + 5
    standardized = standardize_patches(patches)
    expected = standardize_in_loops(patches.double())
    torch.testing.assert_close(standardized.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(restore_patches(standardized, patches), patches)
    # mean and scale of a patch do not matter; a flat one is 0
    torch.testing.assert_close(standardize_patches(7 * patches - 2), standardized, atol=1e-4, rtol=1e-4)
    assert standardize_patches(torch.full((1, 1, 6), 9.0)).abs().max() == 0


def test_mae_known_values():
    targets = standardize_patches(draw_normal(3, 6, 48))
    zeros = torch.zeros_like(targets)
    torch.testing.assert_close(hidden_patch_losses(zeros, targets, KEEP), torch.full((3,), 1 - 1 / 48))
    assert hidden_patch_losses(targets, targets, KEEP).tolist() == [0, 0, 0]
    torch.testing.assert_close(hidden_patch_losses(targets + 2, targets, KEEP), torch.full((3,), 4.0))


def test_mae_goes_with_the_order_of_images_and_of_kept_patches():
    predictions, targets = draw_normal(3, 6, 5), draw_normal(3, 6, 5, seed=1)
    losses, order = hidden_patch_losses(predictions, targets, KEEP), torch.tensor([2, 0, 1])
    moved = hidden_patch_losses(predictions[order], targets[order], KEEP[order])
    torch.testing.assert_close(moved, losses[order])
    torch.testing.assert_close(hidden_patch_losses(predictions, targets, KEEP.flip(1)), losses)
    places = torch.tensor([5, 3, 1, 0, 2, 4])  # patch i goes to the place where this has i
    kept = places.argsort()[KEEP]
    torch.testing.assert_close(hidden_patch_losses(predictions[:, places], targets[:, places], kept), losses)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-6, 1e6, 1e15])
def test_mae_is_finite_for_pixels_of_any_size(scale):
    predictions, pixels = draw_normal(3, 6, 5).requires_grad_(), draw_normal(3, 6, 5, seed=1) * scale
    targets = standardize_patches(pixels)
    losses = hidden_patch_losses(predictions, targets, KEEP)
    losses.sum().backward()
    assert targets.isfinite().all() and losses.isfinite().all() and predictions.grad.isfinite().all()
    assert losses.max() < 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mae_is_computed_in_float32(dtype):
    predictions, targets = draw_normal(3, 6, 5), standardize_patches(draw_normal(3, 6, 5, seed=1))
    losses = hidden_patch_losses(predictions.to(dtype), targets, KEEP)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, hidden_patch_losses(predictions.to(dtype).float(), targets, KEEP))
    half = draw_normal(3, 6, 5).to(dtype)
    assert torch.equal(standardize_patches(half), standardize_patches(half.float()))
    expected = hidden_patch_losses(predictions, targets, KEEP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hidden_patch_losses(predictions, targets, KEEP), expected)


# --- the step


@pytest.mark.parametrize("standardize", [True, False])
def test_a_step_and_its_gradients_are_an_independent_computation(standardize):
    method = build(MAE, standardize=standardize)
    by_hand, view, key = copy.deepcopy(method).double(), draw_normal(5, 3, 16, 16), BatchKey.single(3, 5)
    loss = method.training_step(Batch([view], torch.zeros(5), torch.arange(5), key), 0)["loss"]
    keep, losses = draw_kept_patches(key, 16, 0.75), []
    for image, places in zip(view.double(), keep, strict=True):  # one image at a time
        tokens = by_hand.encoder.encode_tokens(image[None], places[None])[1]
        predictions = by_hand.decoder(tokens, places[None], (4, 4))
        corners = [(y, x) for y in range(0, 16, 4) for x in range(0, 16, 4)]  # in reading order
        patches = [image[:, y : y + 4, x : x + 4].permute(1, 2, 0).flatten() for y, x in corners]
        patches = torch.stack(patches)[None]
        targets = standardize_in_loops(patches) if standardize else patches
        losses.append(mae_in_loops(predictions, targets, places[None]))
    expected = torch.cat(losses).mean()
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        ours = method.get_parameter(name).grad.double()
        torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_hidden_pixels_reach_the_loss_as_targets_alone():
    method, view, key = build(MAE, standardize=False), draw_normal(5, 3, 16, 16), BatchKey.single(3, 5)
    keep = draw_kept_patches(key, 16, 0.75)
    other = fill_hidden(view, 4, keep, cut_patches(draw_normal(5, 3, 16, 16, seed=9), 4))
    with torch.no_grad():
        assert torch.equal(method.predict_patches(other, keep), method.predict_patches(view, keep))
        assert (method.compute_losses(other, key) != method.compute_losses(view, key)).all()


def test_validation_hides_the_same_patches_each_time():
    method = build(MAE).eval()
    batch = Batch([draw_normal(5, 3, 16, 16)], torch.zeros(5), torch.arange(5), BatchKey.single(3, 5, "val"))
    with torch.no_grad():
        first, second = (method.validation_step(batch, i) for i in range(2))
    assert torch.equal(first["losses"], second["losses"]) and first["losses"].shape == (5,)
    assert torch.equal(first["features"], method.encode(batch.views[0]))


def test_an_encoder_without_tokens_is_refused_in_one_line():
    with refused_in_one_line("MAE needs an encoder of patches", "not a ResNet"):
        build(MAE._replace(encoder=lambda norm: ResNet(widths=[8], blocks=[1])))


# --- its pictures


@pytest.mark.parametrize("standardize", [True, False])
def test_pictures_have_what_was_given_and_the_error_of_all_pixels(standardize, data_dir, tmp_path):
    callback = Reconstructions(positions=(3, 1))
    trainer = fit_case(MAE, data_dir, tmp_path, callback, shared={"standardize": standardize})
    facts, arrays = read_figure(tmp_path, "reconstructions")
    method, data = trainer.lightning_module.eval(), trainer.datamodule
    for split in ("train", "val"):
        positions = np.arange(len(data.datasets[split]))
        images, labels, _ = data.datasets[split].__getitems__(positions)
        view = data.read_batch(split, positions, torch.device("cpu")).views[0]
        with torch.no_grad():
            rebuilt = method.reconstruct(view, labels) * MAE.std + MAE.mean
        errors = (rebuilt - images.permute(0, 3, 1, 2) / 255).square().flatten(1).mean(1)
        assert facts[f"{split}_mse"] == pytest.approx(errors.mean().item(), rel=1e-4)
        assert read_last_metrics(tmp_path)[f"{split}/reconstruction_mse"] == pytest.approx(
            facts[f"{split}_mse"]
        )
    np.testing.assert_allclose(arrays["mse"], errors[[3, 1]], rtol=1e-4)
    original, given, rebuilt = (arrays[name].astype(int) for name in ("original", "given", "rebuilt"))
    assert original.shape == given.shape == rebuilt.shape == (2, 16, 16, 3)
    assert np.array_equal(original, images[[3, 1]])
    kept = method.keep_always(view[:1])[0].tolist()
    assert len(kept) == 4
    for n in range(16):
        patch = slice(None), slice(n // 4 * 4, n // 4 * 4 + 4), slice(n % 4 * 4, n % 4 * 4 + 4)
        if n in kept:
            assert (
                abs(given[patch] - original[patch]).max() <= 1
                and abs(rebuilt[patch] - original[patch]).max() <= 1
            )
        else:  # the mean color of the normalization
            assert len(np.unique(given[patch])) == 1 and abs(given[patch].max() - 255 * MAE.mean) <= 1
            assert not np.array_equal(rebuilt[patch], original[patch])
