"""Samples and latents: the distance is the formula, draws come from the prior, steps are where they should be."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.distributions import Normal, kl_divergence

from callbacks.figures.latents import Latents, interpolate_latents, make_traversals, posterior_divergences
from callbacks.figures.samples import Samples
from callbacks.measures.frechet import frechet_distance, patch_statistics
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    read_last_metrics,
    write_numbers,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_is_the_papers():
    a, b = normal(40, 5) @ normal(5, 5, seed=2), 1 + normal(30, 5, seed=1) @ normal(5, 5, seed=3)
    s, t = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(s @ t).real
    expected = (a.mean(0) - b.mean(0)).square().sum() + np.trace(s + t - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("count", [50, 4])  # with 4 in 8 dimensions, covariances are singular
def test_frechet_distance_of_a_set_to_itself_shifted_is_the_shift(count):
    a = normal(count, 8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a + 3) == pytest.approx(8 * 9)


def test_frechet_distance_in_one_dimension_is_that_of_gaussians():
    a, b = normal(100, 1), 2 + 3 * normal(80, 1, seed=1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(float(expected))


def test_patch_statistics_are_means_and_deviations_of_patches():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    statistics = patch_statistics(images, cells=4).view(2, 6, 4, 4)
    patch = images[1, 2, 2:4, 6:8]
    assert float(statistics[1, 2, 1, 3]) == pytest.approx(float(patch.mean()), rel=1e-5)
    assert float(statistics[1, 5, 1, 3]) == pytest.approx(float(patch.std(correction=0)), rel=1e-4)


def test_divergences_are_those_of_torch():
    mean, log_variance = normal(6, 4), normal(6, 4, seed=1)
    posterior = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros(()), torch.ones(()))).mean(0)
    torch.testing.assert_close(posterior_divergences(mean, log_variance), expected)


def test_traversals_move_one_component():
    start, values = torch.arange(4.0), torch.tensor([-1.0, 0.0, 5.0])
    z = make_traversals(start, torch.tensor([2, 0]), values)
    for row, component in enumerate([2, 0]):
        for column, value in enumerate(values):
            expected = start.clone()
            expected[component] = value
            assert torch.equal(z[row, column], expected)


def test_interpolations_are_even_steps_on_a_line():
    a, b = normal(3, 4), normal(3, 4, seed=1)
    z = interpolate_latents(a, b, 5)
    for k in range(5):
        torch.testing.assert_close(z[:, k], a + (b - a) * k / 4)


def small(**options):
    return Samples(compared=20, **options), Latents(components=3, **options)


@pytest.mark.parametrize("number", range(3))
def test_a_vae_has_pictures_of_prior_classes_and_latents(number, data_dir, tmp_path):
    trainer = fit_case(find_case("VAE", number), data_dir, tmp_path, *small())
    facts, arrays = read_figure(tmp_path, "samples")
    assert arrays["samples"].shape == (20, 16, 16, 3) and facts["compared"] == 20
    assert facts["distance"] > facts["real_distance"] > 0  # one epoch: far from real
    assert read_last_metrics(tmp_path)["val/sample_distance"] == pytest.approx(facts["distance"])
    facts, arrays = read_figure(tmp_path, "class_samples")
    assert [entry["class"] for entry in facts["classes"]] == trainer.datamodule.class_names
    assert arrays["drawn_circle"].shape == arrays["real_circle"].shape == (6, 16, 16, 3)
    rows = trainer.datamodule.datasets["train"]
    first = rows.__getitems__((rows.labels == 0).nonzero().flatten()[:6].numpy())[0]
    assert np.array_equal(arrays["real_circle"], first)
    facts, arrays = read_figure(tmp_path, "traversals")
    kl = np.array(facts["nats"])
    assert arrays["images"].shape == (3, 7, 16, 16, 3) and kl[facts["components"]].min() == np.sort(kl)[-3]
    _, arrays = read_figure(tmp_path, "interpolations")
    # of positions 1, 2, 3, 6, 7, 9 there are eight images: two pairs
    assert arrays["images"].shape == (2, 8, 16, 16, 3) and arrays["original"].shape == (2, 2, 16, 16, 3)


def test_draws_come_from_a_generator_of_their_own(data_dir, tmp_path):
    trainer = fit_case(find_case("VAE"), data_dir, tmp_path)
    labels, drawn = trainer.datamodule.datasets["train"].labels, []
    for seed in range(2):
        state = torch.manual_seed(seed).get_state()
        callback = Samples(compared=4)
        drawn.append(
            callback.compare_with_real(trainer, trainer.lightning_module, labels, torch.arange(len(labels)))[
                0
            ]
        )
        assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(*drawn)


def test_a_conditional_vae_draws_the_class_it_is_given(data_dir, tmp_path):
    trainer = fit_case(find_case("VAE", 2), data_dir, tmp_path)
    module, given = trainer.lightning_module, []
    generate = module.generate
    module.generate = lambda *args: given.append(args[2:]) or generate(*args)
    labels = trainer.datamodule.datasets["train"].labels
    callback = Samples(compared=4)
    for k in range(4):
        callback.compare_with_real(trainer, module, labels, (labels == k).nonzero().flatten())
    assert [drawn.tolist() for _, drawn in given] == [[k] * 4 for k in range(4)]
    assert all(gaussian is None for gaussian, _ in given)


def test_without_classes_there_are_samples_but_none_of_a_class(tmp_path):
    fit_case(find_case("VAE"), write_numbers(tmp_path), tmp_path, *small())
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "samples",
        "traversals",
        "interpolations",
    }


@pytest.mark.parametrize("method", ["SimCLR", "Classifier", "Autoencoder", "NextCharacter"])
def test_one_line_says_that_a_method_draws_no_images(method, data_dir, tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        fit_case(find_case(method), data_dir, tmp_path, *small(every_n_epochs=1), max_epochs=2)
    told = [record.getMessage() for record in caplog.records if "no picture" in record.getMessage()]
    assert told == [
        f"Samples: no picture, since {method} is no generative method",
        f"Latents: no picture, since {method} has no latents with a prior",
    ]
    assert not (tmp_path / "figures").exists()
