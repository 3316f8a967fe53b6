"""Clusters against classes: every measure by its definition, every stage by what it must do."""

from itertools import permutations

import numpy as np
import pytest
import torch

from callbacks.figures.clustering import Clustering
from callbacks.figures.feature_map import FeatureMap
from callbacks.figures.retrieval import Retrieval
from callbacks.measures.clusters import assign_clusters, match_classes, measure_agreement, reduce_dimensions
from callbacks.plotting.examples import load_examples
from ssl_modules.networks.resnet import ResNet
from tests.conftest import CLASSES, random_split
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    read_last_metrics,
    write_numbers,
)


def groups(count: int, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(count, dim) around three centers far apart, and which (count,)."""
    rng = np.random.default_rng(0)
    kinds = np.arange(count) % 3
    return 8 * rng.normal(size=(3, dim))[kinds] + 0.3 * rng.normal(size=(count, dim)), kinds


@pytest.mark.parametrize("clusters, classes", [(2, 2), (4, 4), (3, 4), (5, 3)])
def test_accuracy_is_the_best_of_all_matchings(clusters, classes):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assigned, labels = rng.integers(clusters, size=30), rng.integers(classes, size=30)
        best = 0.0  # each cluster a class of its own, or none
        for stands_for in permutations([*range(classes), *[-1] * clusters], clusters):
            best = max(best, float((np.array(stands_for)[assigned] == labels).mean()))
        matched = match_classes(assigned, labels)
        assert (matched == labels).mean() == pytest.approx(best)
        pairs = {(a, b) for a, b in zip(assigned, matched, strict=True) if b >= 0}
        assert len(pairs) == len(dict(pairs)) == len({b for _, b in pairs})


def test_for_two_clusters_it_is_the_accuracy_or_its_complement():
    rng = np.random.default_rng(0)
    assigned, labels = rng.integers(2, size=101), rng.integers(2, size=101)
    accuracy = (assigned == labels).mean()
    assert (match_classes(assigned, labels) == labels).mean() == max(accuracy, 1 - accuracy)


def test_names_of_clusters_and_missing_classes_do_not_matter():
    labels = np.array([7, 7, 2, 2, 2])
    assert match_classes(np.array([5, 5, 0, 0, 5]), labels).tolist() == [7, 7, 2, 2, 7]
    assert match_classes(np.array([0, 0, 1, 1, 2]), labels).tolist() == [7, 7, 2, 2, -1]


def test_the_same_partition_agrees_wholly_and_chance_does_not():
    labels = np.arange(3000) % 3
    assert measure_agreement((labels + 1) % 3, labels) == pytest.approx(
        {"cluster_accuracy": 1, "nmi": 1, "ari": 1}
    )
    by_chance = measure_agreement(np.random.default_rng(0).permutation(labels), labels)
    assert by_chance == pytest.approx({"cluster_accuracy": 1 / 3, "nmi": 0, "ari": 0}, abs=0.03)


@pytest.mark.parametrize("reduce", [False, True])
def test_groups_far_apart_are_found(reduce):
    x, kinds = groups(60)
    x = reduce_dimensions(x, 4) if reduce else x
    clusters = assign_clusters(x, 3)
    assert (match_classes(clusters, kinds) == kinds).all()
    assert np.array_equal(clusters, assign_clusters(x, 3))


def test_kernel_pca_is_the_eigenvectors_of_the_centered_kernel():
    x, _ = groups(20)
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(2) / x.var(0).sum())
    center = np.eye(20) - 1 / 20
    values, vectors = np.linalg.eigh(center @ kernel @ center)
    expected = vectors[:, ::-1][:, :3] * np.sqrt(values[::-1][:3])
    np.testing.assert_allclose(abs(reduce_dimensions(x, 3)), abs(expected), atol=1e-6)
    np.testing.assert_allclose(reduce_dimensions(3 * x + 1, 2), reduce_dimensions(x, 2), atol=1e-6)


@pytest.mark.parametrize("method", ["SimCLR", "VAE", "Classifier", "Autoencoder"])
def test_the_callback_measures_what_it_draws(method, data_dir, tmp_path):
    fit_case(find_case(method), data_dir, tmp_path, Clustering())
    facts, arrays = read_figure(tmp_path, "clustering")
    assert facts["clusters"] == len(CLASSES)
    assert facts["stages"] == ["features", "kernel_pca", "tsne", "kmeans"]
    right = match_classes(arrays["clusters"], arrays["labels"]) == arrays["labels"]
    logged = read_last_metrics(tmp_path)
    assert facts["cluster_accuracy"] == right.mean() == pytest.approx(logged["val/cluster_accuracy"])
    assert facts["nmi"] == pytest.approx(logged["val/nmi"], abs=1e-6)
    assert facts["ari"] == pytest.approx(logged["val/ari"], abs=1e-6)
    assert arrays["xy"].shape == (8, 2)


@pytest.mark.parametrize("plane", ["none", "pca"])
def test_the_plane_can_be_left_out(plane, data_dir, tmp_path):
    callback = Clustering(plane=plane, clusters=2)
    fit_case(find_case("SimCLR"), data_dir, tmp_path, callback)
    _, arrays = read_figure(tmp_path, "clustering")
    assert set(arrays["clusters"]) == {0, 1}


def test_maps_are_clustered_by_their_means(data_dir, tmp_path):
    """Without a plane, the clusters are those of the means, computed here, of the drawn examples."""
    callback = Clustering(layer="maps", plane="none", clusters=2)
    trainer = fit_case(find_case("Autoencoder"), data_dir, tmp_path, callback)
    facts, arrays = read_figure(tmp_path, "clustering")
    assert facts["stages"] == ["maps", "kernel_pca", "none", "kmeans"]
    view = load_examples(trainer, "val", arrays["index"]).view
    with torch.no_grad():
        maps = trainer.lightning_module.encoder.eval().maps(view)
    assert maps.shape[2] > 1  # else features would be the same
    clusters = assign_clusters(reduce_dimensions(maps.mean((2, 3)).numpy(), 50), 2)
    assert measure_agreement(clusters, arrays["clusters"])["ari"] == 1


def test_without_maps_one_line_says_so(data_dir, tmp_path):
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, callback := Clustering(layer="maps"))
    assert callback.skip_reason and not (tmp_path / "figures").exists()


def test_tokens_are_no_maps(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(ResNet, "maps", lambda self, x: torch.zeros(len(x), 5, self.dim))
    monkeypatch.setattr(ResNet, "forward", lambda self, x: self.stages(self.stem(x)).mean((2, 3)))
    fit_case(find_case("SimCLR"), data_dir, tmp_path, callback := Clustering(layer="maps"))
    assert callback.skip_reason and not (tmp_path / "figures").exists()


def test_texts_have_clusters_and_numbers_do_not(data_dir, tmp_path):
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, Clustering())
    assert read_figure(tmp_path, "clustering")[0]["clusters"] == 2
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path / "numbers", callback := Clustering())
    assert callback.skip_reason and not (tmp_path / "numbers" / "figures").exists()


def test_only_validation_images_need_labels(tmp_path):
    (folder := tmp_path / "tiny").mkdir()
    np.save(folder / "train_images.npy", random_split(48)[0])
    for kind, array in zip(("images", "labels"), random_split(20, classes=2, seed=1), strict=True):
        np.save(folder / f"val_{kind}.npy", array)
    callbacks = Clustering(), FeatureMap(), Retrieval()
    fit_case(find_case("Autoencoder"), tmp_path, tmp_path, *callbacks)
    facts, arrays = read_figure(tmp_path, "clustering")
    assert facts["clusters"] == 2 and len(arrays["labels"]) == 20
    assert "pred" not in read_figure(tmp_path, "tsne")[1]
    assert callbacks[2].skip_reason and not (tmp_path / "figures" / "retrieval").exists()
