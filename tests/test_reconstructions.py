"""Reconstructions: the error is the mean over every pixel of a split, and what was turned is told from the images."""

import numpy as np
import pytest
import torch
from torch import nn

from callbacks.figures.reconstructions import Reconstructions, find_quarter_turns, squared_error
from ssl_modules.mae import MAE
from ssl_modules.networks.patches import cut_patches, fill_hidden, join_patches, mark_hidden
from tests.figure_runs import (
    build_tiny_data,
    find_case,
    fit_case,
    read_figure,
    read_last_metrics,
    write_numbers,
)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_squared_error_is_the_mean_over_pixels():
    a, b = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    errors = squared_error(a, b)
    for i in range(2):
        for c in range(3):
            by_hand = sum(float(a[i, c, y, x] - b[i, c, y, x]) ** 2 for y in range(4) for x in range(5)) / 20
            assert float(errors[i, c]) == pytest.approx(by_hand, rel=1e-5)


def test_quarter_turns_are_found():
    views = random(5, 3, 6, 6)
    targets = torch.stack([torch.rot90(view, k, (1, 2)) for view, k in zip(views, range(4), strict=False)])
    targets = torch.cat([targets, random(1, 3, 6, 6, seed=1)])
    assert find_quarter_turns(views, targets).tolist() == [0, 1, 2, 3, -1]


@pytest.mark.parametrize("method, number", [("Autoencoder", 0), ("Autoencoder", 1), ("VAE", 0), ("VAE", 2)])
def test_the_error_of_both_splits_in_the_pixels_scale(method, number, data_dir, tmp_path):
    case = find_case(method, number)
    trainer = fit_case(case, data_dir, tmp_path, Reconstructions(positions=(3, 1)))
    facts, arrays = read_figure(tmp_path, "reconstructions")
    module, data = trainer.lightning_module.eval(), trainer.datamodule
    for split in ("train", "val"):
        positions = np.arange(len(data.datasets[split]))
        images, labels, _ = data.datasets[split].__getitems__(positions)
        view = data.read_batch(split, positions, torch.device("cpu")).views[0]
        with torch.no_grad():
            rebuilt = module.reconstruct(view, labels) * case.std + case.mean
        pixels = images.permute(0, 3, 1, 2) / 255
        scaled_mse = (rebuilt - pixels).square().mean().item() / case.std**2
        assert facts[f"{split}_mse"] == pytest.approx(scaled_mse * case.std**2, rel=1e-4)
        assert facts["own_scale"][split] == pytest.approx(scaled_mse, rel=1e-4)
        assert read_last_metrics(tmp_path)[f"{split}/reconstruction_mse"] == pytest.approx(
            facts[f"{split}_mse"]
        )
        if split == "val":
            each = (rebuilt - pixels)[[3, 1]].square().flatten(1).mean(1)
            np.testing.assert_allclose(arrays["mse"], each, rtol=1e-4)
            assert np.array_equal(arrays["original"], images[[3, 1]])
    assert arrays["rebuilt"].shape == (2, 16, 16, 3) and "turned" not in arrays


def test_training_images_are_shown_as_they_were_turned(data_dir, tmp_path):
    case = find_case("Autoencoder", 1)
    trainer = fit_case(case, data_dir, tmp_path, Reconstructions(), shared={"beta": 10.0})
    _, arrays = read_figure(tmp_path, "reconstructions")
    assert set(arrays["turns"]) <= {1, 2, 3} and len(arrays["turns"]) == len(arrays["turned"]) > 0
    stored = {image.tobytes() for image in trainer.datamodule.datasets["train"].images}
    for image, turn in zip(arrays["turned"], arrays["turns"], strict=True):
        assert np.ascontiguousarray(np.rot90(image, -turn)).tobytes() in stored
    assert arrays["turned_rebuilt"].shape == arrays["turned"].shape


def test_data_without_classes_are_reconstructed(tmp_path):
    fit_case(find_case("VAE"), write_numbers(tmp_path), tmp_path, Reconstructions())
    assert 0 < read_figure(tmp_path, "reconstructions")[0]["val_mse"] < 1


@pytest.mark.parametrize("method", ["SimCLR", "Classifier", "RotNet", "NextCharacter"])
def test_one_line_says_that_a_method_has_no_decoder(method, data_dir, tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        fit_case(find_case(method), data_dir, tmp_path, Reconstructions(every_n_epochs=1), max_epochs=2)
    told = [record.getMessage() for record in caplog.records if "Reconstructions" in record.getMessage()]
    assert told == [f"Reconstructions: no picture, since {method} has no decoder"]
    assert not (tmp_path / "figures").exists()


def test_the_error_of_a_test_split_is_its_loss(data_dir, tmp_path):
    from lightning.pytorch import Trainer

    from callbacks.evaluation.epoch_means import EpochMeans
    from callbacks.evaluation.features import Features
    from tests.methods import build

    case = find_case("Autoencoder")
    options = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    trainer = Trainer(accelerator="cpu", callbacks=[EpochMeans(), Features(), Reconstructions()], **options)
    (numbers,) = trainer.test(build(case), build_tiny_data(case, data_dir), verbose=False)
    assert numbers["test/reconstruction_mse"] == pytest.approx(numbers["test/loss"], rel=1e-5)


class MaskedPixels(MAE):
    """Reads all patches, of which some are masked, and predicts pixels from their tokens, as SimMIM does."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mask_token = nn.Parameter(torch.zeros(self.encoder.dim))
        self.head = nn.Linear(self.encoder.dim, 3 * self.patch_size**2)
        self.calls = []

    def training_step(self, batch, batch_idx):
        rebuilt = self.reconstruct(batch.views[0], batch.labels)
        losses = (rebuilt - batch.views[0]).square().flatten(1).mean(1)
        return self.outputs(losses.mean(), count=len(losses), losses=losses)

    def hide(self, view):
        self.calls.append((self.training, torch.is_grad_enabled()))
        mask = mark_hidden(self.keep_always(view), 16)[..., None]
        hidden = cut_patches(view, self.patch_size).masked_fill(mask, 0)
        return join_patches(hidden, self.patch_size, self.encoder.grid(view))

    def reconstruct(self, view, labels):
        mask = mark_hidden(self.keep_always(view), 16)
        tokens = self.encoder.encode_tokens(view, mask=mask, mask_token=self.mask_token)[1]
        return fill_hidden(view, self.patch_size, self.keep_always(view), self.head(tokens))


def test_any_method_that_hides_patches_is_drawn_with_what_it_was_given(data_dir, tmp_path):
    case = find_case("MAE")._replace(method=MaskedPixels)
    trainer = fit_case(case, data_dir, tmp_path, Reconstructions(positions=(2, 0, 900)))
    facts, arrays = read_figure(tmp_path, "reconstructions")
    assert facts["positions"] == [2, 0] and 0 < facts["val_mse"] < 1
    module, data = trainer.lightning_module.eval(), trainer.datamodule
    view = data.read_batch("val", np.array([2, 0]), torch.device("cpu")).views[0]
    with torch.no_grad():
        expected = [data.display(image) for image in (module.hide(view), module.reconstruct(view, None))]
    assert np.array_equal(arrays["given"], expected[0]) and np.array_equal(arrays["rebuilt"], expected[1])
    assert module.calls[0] == (False, False)  # in eval mode, without gradients
