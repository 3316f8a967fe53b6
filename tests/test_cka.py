"""CKA: the paper's formula, its invariances, and layers in the order in which they run."""

import numpy as np
import pytest
import torch
from torch import nn

from callbacks.figures.cka import CKA, cka_matrix, list_blocks, pool_output
from common.similarity import linear_cka
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.resnet import ResNet
from tests.figure_runs import find_case, fit_case, read_figure, write_numbers


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def hsic(k, l):  # noqa: E741 (the paper's letter)
    """Kornblith et al. 2019, eq. 2-3: the trace of K H L H / (n - 1)^2, in loops."""
    n = len(k)

    def centered(m):
        rows = [sum(m[i][j] for j in range(n)) / n for i in range(n)]
        whole = sum(rows) / n
        return [[m[i][j] - rows[i] - rows[j] + whole for j in range(n)] for i in range(n)]

    a, b = centered(k), centered(l)
    return sum(a[i][j] * b[i][j] for i in range(n) for j in range(n)) / (n - 1) ** 2


@pytest.mark.parametrize("widths", [(3, 5), (12, 20), (3, 20)])  # fewer and more columns than examples
def test_linear_cka_is_the_papers(widths):
    x, y = 1 + normal(8, widths[0]), normal(8, widths[1], seed=1)
    y[:, :3] += x[:, :3]
    k, l = ([[float(a @ b) for b in z] for a in z] for z in (x, y))  # noqa: E741
    assert linear_cka(x, y) == pytest.approx(hsic(k, l) / (hsic(k, k) * hsic(l, l)) ** 0.5, rel=1e-9)


@pytest.mark.parametrize("width", [4, 40])
def test_a_turned_scaled_and_shifted_copy_is_the_same(width):
    x = normal(20, width)
    rotation, _ = np.linalg.qr(normal(width, width, seed=1))
    assert linear_cka(x, 3 * x @ rotation + 7) == pytest.approx(1, rel=1e-9)
    y = normal(20, 6, seed=2)
    assert linear_cka(x @ rotation - 1, y) == pytest.approx(linear_cka(x, y), rel=1e-9)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-9)


def test_what_does_not_vary_is_like_nothing():
    assert linear_cka(np.ones((5, 3)), normal(5, 3)) == 0


def test_matrices_of_two_networks():
    a = {"first": normal(9, 3), "second": normal(9, 2, seed=1)}
    matrix = cka_matrix(a, {"other": normal(9, 4, seed=2), "same": 2 * a["second"]})
    assert matrix.shape == (2, 2) and matrix[1, 1] == pytest.approx(1)


def test_blocks_are_layers_and_residual_blocks():
    assert list(list_blocks(ResNet(widths=[8, 16], blocks=[1, 2]))) == [
        *("stem.0", "stem.1", "stem.2"),
        *("stages.0", "stages.1", "stages.2"),
    ]
    wrapped = nn.Sequential(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    assert list(list_blocks(wrapped)) == ["0.0", "0.1"]
    assert list(list_blocks(nn.Linear(3, 2))) == [""]


def test_space_and_time_are_averaged_out():
    maps, sequence = torch.rand(2, 3, 4, 5), torch.rand(2, 6, 3)
    torch.testing.assert_close(pool_output(maps), maps.flatten(2).mean(2))
    torch.testing.assert_close(pool_output((sequence, None)), sequence.mean(1))


LAYERS = {
    "SimCLR": ["stem.0", "stages.0", "stages.1", "features"],
    "Autoencoder": ["layers.0", "layers.2", "features"],
    "VAE": ["trunk.1", "heads", "features"],
    "CMC": [
        f"{half}.{layer}"
        for half in ("luminance", "chromaticity")
        for layer in ("stem.0", "stages.0", "stages.1")
    ]
    + ["features"],
    "NextCharacter": ["lstm", "features"],
}


@pytest.mark.parametrize("method", LAYERS)
def test_layers_in_the_order_they_run_and_their_features_for_later(method, data_dir, tmp_path):
    trainer = fit_case(find_case(method), data_dir, tmp_path, CKA())
    facts, arrays = read_figure(tmp_path, "cka")
    assert facts["layers"] == LAYERS[method]
    count = len(trainer.datamodule.datasets["val"])
    with np.load(tmp_path / "cka_features.npz") as data:
        features = dict(data)
    assert features.pop("index").tolist() == list(range(count)) and list(features) == LAYERS[method]
    np.testing.assert_allclose(arrays["cka"], cka_matrix(features, features))
    np.testing.assert_allclose(np.diag(arrays["cka"]), 1)
    assert not any(part._forward_hooks for part in trainer.lightning_module.modules())


def test_features_are_pooled_after_norm_and_activation(data_dir, tmp_path):
    trainer = fit_case(find_case("SimCLR"), data_dir, tmp_path, CKA(images=3))
    with np.load(tmp_path / "cka_features.npz") as data:
        stem, index = data["stem.0"], data["index"]
    module, datamodule = trainer.lightning_module.eval(), trainer.datamodule
    assert index.tolist() == [0, 3, 7]  # of eight, evenly
    view = datamodule.read_batch("val", index, torch.device("cpu")).views[0]
    with torch.no_grad():
        expected = module.encoder.stem(view).mean((2, 3))
    np.testing.assert_allclose(stem, expected, rtol=1e-5, atol=1e-6)


def test_data_without_classes_have_layers(tmp_path):
    fit_case(find_case("Autoencoder"), write_numbers(tmp_path), tmp_path, CKA())
    assert len(read_figure(tmp_path, "cka")[1]["cka"]) == 3


def test_blocks_are_named_like_their_modules():
    encoder = ConvEncoder(16, widths=(8, 16))
    assert set(list_blocks(encoder)) <= {name for name, _ in encoder.named_modules()}
