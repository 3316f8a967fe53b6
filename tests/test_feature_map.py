"""Maps of features: neighbors stay neighbors, epochs resemble each other, and the data behind tell the truth."""

import sys

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from sklearn.manifold import TSNE, trustworthiness

from callbacks.figures.feature_map import FeatureMap, name_axes, read_previous_map
from callbacks.plotting.examples import shrink_images
from callbacks.plotting.scatter import project_to_plane
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    write_numbers,
)
from tests.methods import Flat


def groups(count: int, dim: int = 60, apart: float = 2.0, seed: int = 0) -> np.ndarray:
    """(count, dim) float32, around four centers."""
    centers = apart * np.random.default_rng(0).normal(size=(4, dim))
    noise = np.random.default_rng(seed).normal(size=(count, dim))
    return (centers[np.arange(count) % 4] + noise).astype(np.float32)


def test_pca_is_the_singular_vectors_up_to_sign():
    x = groups(50)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(abs(project_to_plane(x, "pca")), abs(u[:, :2] * s[:2]), rtol=1e-3, atol=1e-3)
    shares = 100 * s[:2] ** 2 / (s**2).sum()
    names = name_axes(x, project_to_plane(x, "pca"), "pca")
    assert names == tuple(f"principal component {k}: {shares[k - 1]:.0f} % of the variance" for k in (1, 2))


@pytest.mark.parametrize("how", ["tsne", "pca", "umap"])
def test_two_dimensions_are_the_map_themselves(how):
    x = groups(20, dim=2)
    assert np.array_equal(project_to_plane(x, how), x)
    assert np.array_equal(project_to_plane(x[:, :1], how), np.stack([x[:, 0], 0 * x[:, 0]], 1))


def test_tsne_of_100_points_is_as_trustworthy_as_scikit_learns():
    x = groups(100, apart=0.5)
    theirs = TSNE(random_state=0).fit_transform(x)
    assert trustworthiness(x, project_to_plane(x)) > trustworthiness(x, theirs) - 0.02


def test_equal_arguments_give_equal_maps_and_global_generators_stay():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert np.array_equal(project_to_plane(groups(80)), project_to_plane(groups(80)))
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_a_map_moves_on_from_the_one_before():
    first, other = project_to_plane(groups(200)), groups(200, apart=2.5, seed=1)
    turned = first[:, ::-1] * [1, -1]  # a start that no map would choose by itself

    def moved(start: np.ndarray | None) -> float:
        return float(np.linalg.norm(project_to_plane(other, start=start) - turned, axis=1).mean())

    assert moved(turned) < 0.5 * moved(None)


def test_umap_keeps_groups_together():
    pytest.importorskip("umap", reason="UMAP needs umap-learn: pip install umap-learn")
    x = groups(120)
    xy = project_to_plane(x, "umap")
    assert np.array_equal(xy, project_to_plane(x, "umap")) and trustworthiness(x, xy) > 0.8


def test_umap_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MisconfigurationException, match="UMAP needs umap-learn: pip install"):
        project_to_plane(groups(20), "umap")


def test_the_map_before_is_the_newest_of_the_same_examples(tmp_path):
    for epoch in (2, 9, 10, 20):
        np.savez(tmp_path / f"epoch={epoch}.npz", xy=np.full((3, 2), epoch), index=np.arange(3))
    np.savez(tmp_path / "thumbnails.npz", images=np.zeros(3))
    assert read_previous_map(tmp_path, 20, np.arange(3))[0, 0] == 10
    assert read_previous_map(tmp_path, 2, np.arange(3)) is None
    assert read_previous_map(tmp_path, 30, np.arange(1, 4)) is None


def test_thumbnails_are_means_over_pixels():
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), np.uint8)
    shrunk = shrink_images(image)
    assert shrunk.shape == (2, 32, 32, 3) and shrunk.dtype == np.uint8
    assert (shrunk[..., 0] == shrunk[..., 2]).all()
    assert shrunk.mean() == pytest.approx(image.mean(), abs=1)
    assert (shrink_images(np.full((1, 8, 8, 3), 77, np.uint8)) == 77).all()


@pytest.mark.parametrize("method", ["SimCLR", "VAE", "Classifier", "Autoencoder"])
def test_the_callback_writes_the_same_examples_at_all_epochs(method, data_dir, tmp_path):
    trainer = fit_case(
        find_case(method), data_dir, tmp_path, FeatureMap(points=6, every_n_epochs=1), max_epochs=2
    )
    folder, stored = tmp_path / "figures" / "tsne", trainer.datamodule.datasets["val"]
    first, last = (dict(np.load(folder / f"epoch={epoch}.npz")) for epoch in (0, 1))
    assert np.array_equal(first["index"], last["index"]) and len(first["index"]) == 6
    assert last["xy"].shape == (6, 2) and np.isfinite(last["xy"]).all() and last["split"] == "val"
    assert np.array_equal(last["labels"], stored.labels[last["index"]])
    assert np.isin(last["pred"], range(4)).all()
    with np.load(folder / "thumbnails.npz") as data:
        assert data["images"].shape == (6, 32, 32, 3)
        images, *_ = stored.__getitems__(last["index"])
        np.testing.assert_allclose(data["images"], shrink_images(images.numpy()), atol=1)
    assert (folder / "epoch=1.png").stat().st_size > 5000


def test_the_latent_space_of_a_vae_is_a_map_of_its_posterior_means(data_dir, tmp_path):
    fit_case(find_case("VAE"), data_dir, tmp_path, FeatureMap(how="pca", name="latent_map"))
    _, arrays = read_figure(tmp_path, "latent_map")
    assert arrays["xy"].shape == (8, 2) and abs(arrays["xy"].mean(0)).max() < 1e-5


def test_numbers_and_texts_have_maps(data_dir, tmp_path):
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path / "numbers", FeatureMap())
    _, arrays = read_figure(tmp_path / "numbers", "tsne")
    assert "pred" not in arrays and arrays["labels"].shape == (len(arrays["xy"]), 2)
    data = fit_case(find_case("Classifier", 1), data_dir, tmp_path, FeatureMap()).datamodule
    _, arrays = read_figure(tmp_path, "tsne")
    with np.load(tmp_path / "figures/tsne/thumbnails.npz") as thumbnails:
        views, *_ = data.read_batch("val", arrays["index"], torch.device("cpu"))
        assert thumbnails["texts"].tolist() == data.display(views[0])


def test_collapsed_features_have_none(data_dir, tmp_path):
    flat = find_case("SimCLR")._replace(encoder=lambda norm: Flat())
    fit_case(flat, data_dir, tmp_path, callback := FeatureMap())
    assert callback.skip_reason and not (tmp_path / "figures").exists()
