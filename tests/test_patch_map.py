"""Principal components of patches: those of scikit-learn, in colors that stay, whatever the encoder."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from callbacks.figures.patch_map import (
    PatchMap,
    compute_components,
    describe_picture,
    find_problem,
    measure_position_share,
)
from callbacks.measures.components import (
    match_components,
    orient_components,
    principal_components,
    scale_components,
)
from callbacks.plotting.component_grid import color_cells, draw_components
from callbacks.plotting.examples import Examples
from ssl_modules.networks.vit import ViT
from tests.conftest import CLASSES, write_random
from tests.draws import draw_normal
from tests.figure_runs import build_tiny_data, find_case, fit_case, read_figure, write_numbers

MAE = find_case("MAE")


# --- the measure


def test_components_are_those_of_scikit_learn():
    x = draw_normal(200, 12).double() * torch.logspace(0, 1, 12) + 3
    scores, shares = principal_components(x)
    pca = PCA(3, svd_solver="full").fit(x.numpy())
    expected = pca.transform(x.numpy())
    signs = np.sign((scores.numpy() * expected).sum(0))
    np.testing.assert_allclose(scores.numpy() * signs, expected, atol=1e-9)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-9)


def test_fewer_directions_than_components_leave_zeros():
    scores, shares = principal_components(draw_normal(5, 2))
    assert scores.shape == (5, 3) and shares.shape == (3,) and not scores[:, 2].any() and shares[2] == 0
    assert float(shares.sum()) == pytest.approx(1)
    scores, shares = principal_components(torch.ones(4, 3))
    assert not scores.any() and not shares.any()


def test_signs_follow_the_reference():
    scores, reference = draw_normal(50, 3), draw_normal(50, seed=1)
    oriented = orient_components(scores, reference + 100)
    assert torch.equal(oriented.abs(), scores.abs())
    assert all(np.corrcoef(column, reference)[0, 1] > 0 for column in oriented.T)
    assert torch.equal(oriented, orient_components(-scores, reference))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_components_are_found_again_in_any_order_and_sign(order, signs):
    earlier = draw_normal(80, 3)
    later = earlier[:, order] * torch.tensor(signs) * torch.tensor([0.1, 5, 1]) + 0.05 * draw_normal(
        80, 3, seed=1
    )
    places, turned = match_components(later, earlier)
    again = later[:, places] * turned
    for k in range(3):
        assert np.corrcoef(again[:, k], earlier[:, k])[0, 1] > 0.7, (places, turned)
    assert sorted(places) == [0, 1, 2]


def test_colors_reach_from_the_lowest_to_the_highest_hundredth():
    scores = torch.stack(
        [torch.arange(1001.0), torch.arange(1001.0).flip(0) ** 3, torch.full((1001,), 7.0)], 1
    )
    scaled = scale_components(scores)
    assert scaled.min() == 0 and scaled.max() == 1 and (scaled[:, 2] == 0.5).all()
    assert (scaled[:10, 0] == 0).all() and (scaled[-10:, 0] == 1).all()
    assert float(scaled[500, 0]) == pytest.approx(0.5)


@pytest.mark.parametrize("n", [2, 10, 300])
def test_position_accounts_for_nothing_in_noise_and_for_all_in_a_pattern(n):
    noise, pattern = draw_normal(n, 64, 4, 6), draw_normal(1, 64, 4, 6, seed=1).expand(n, -1, -1, -1)
    assert measure_position_share(noise) < 0.1
    assert measure_position_share(pattern) == pytest.approx(1)
    assert measure_position_share(noise + pattern) == pytest.approx(0.5, abs=0.1)
    assert measure_position_share(noise[:1]) is None


# --- the picture


def test_components_rise_with_brightness_and_later_go_on_as_they_were():
    maps, view = draw_normal(4, 8, 2, 3), draw_normal(4, 3, 8, 12, seed=1)
    first = compute_components(maps, view)
    brightness = view.mean(1).unflatten(1, (2, 4)).unflatten(3, (3, 4)).mean((2, 4))  # (4, 2, 3)
    for k in range(3):
        assert np.corrcoef(first.scores[:, k].flatten(), brightness.flatten())[0, 1] > 0
    assert (first.shares.diff() <= 0).all()
    swapped = -first.scores[:, [1, 0, 2]].float().numpy()
    later = compute_components(maps, view, swapped)
    np.testing.assert_allclose(later.scores, swapped, atol=1e-5)
    assert later.shares.tolist() == first.shares[[1, 0, 2]].tolist()
    other_grid = compute_components(maps, view, np.zeros((4, 3, 4, 4)))
    assert torch.equal(other_grid.scores, first.scores)


def test_a_color_means_the_same_in_all_images():
    scores = torch.zeros(2, 3, 1, 2)
    scores[0, 0], scores[1, 0] = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.5]])
    colors = color_cells(scores, (2, 4))
    assert colors.shape == (2, 2, 4, 3) and colors.dtype == np.uint8
    assert colors[0, 0, :, 0].tolist() == [0, 0, 255, 255]
    assert colors[1, 1, :2, 0].tolist() == [255, 255] and 120 < colors[1, 0, 2, 0] < 135
    assert (colors[..., 1] == 128).all()


@pytest.mark.parametrize("count, shape, grid", [(1, (16, 16, 3), (4, 4)), (2, (8, 24, 1), (1, 3))])
def test_any_number_of_images_is_drawn(count, shape, grid):
    images = np.full((count, *shape), 128, np.uint8)
    examples = Examples(torch.zeros(count), torch.arange(count) - 1, torch.arange(count), images)
    view = torch.rand(count, shape[2], *shape[:2])
    maps = draw_normal(count, 5, *grid)
    parts = [compute_components(x, view) for x in (maps, maps - maps.mean(0))]
    figure = draw_components(examples, *parts, CLASSES)
    assert len(figure.axes) == 5 * count
    assert [axis.get_title() for axis in figure.axes[:count]] == ["?", "circle"][:count]
    draw_components(examples, *parts, None)
    text = describe_picture(maps, measure_position_share(maps), "test")
    assert text.startswith("Test images of ") and ("accounts for" in text) == (count > 1)


def test_maps_with_nothing_to_see_say_why():
    noise = draw_normal(2, 4, 3, 3)
    assert find_problem(noise) is None
    assert find_problem(noise[0]) == "have no height and width"
    assert find_problem(noise[..., :1, :1]) == "have a single cell"
    assert find_problem(noise / 0) == "are not finite"
    assert find_problem(torch.ones(2, 4, 3, 3)) == "are alike in all cells"


# --- the callback


def test_a_fit_leaves_the_components_of_its_patches(data_dir, tmp_path):
    trainer = fit_case(MAE, data_dir, tmp_path, PatchMap(images=5))
    facts, arrays = read_figure(tmp_path, "patch_map")
    view = trainer.datamodule.read_batch("val", arrays["index"], torch.device("cpu")).views[0]
    with torch.no_grad():
        maps = trainer.lightning_module.encoder.eval().maps(view)
    for key, values in {"": maps, "_centered": maps - maps.mean(0)}.items():
        expected = PCA(3, svd_solver="full").fit(values.movedim(1, -1).reshape(-1, 24))
        scores = expected.transform(values.movedim(1, -1).reshape(-1, 24)).reshape(5, 4, 4, 3)
        np.testing.assert_allclose(
            abs(arrays[f"components{key}"]), abs(scores.transpose(0, 3, 1, 2)), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(arrays[f"shares{key}"], expected.explained_variance_ratio_, rtol=1e-4)
    assert facts["kind"] == "patches" and facts["position_share"] == measure_position_share(maps)
    images, labels, _ = trainer.datamodule.datasets["val"].__getitems__(arrays["index"])
    assert np.array_equal(arrays["original"], images) and arrays["labels"].tolist() == labels.tolist()


def test_colors_stay_from_epoch_to_epoch(data_dir, tmp_path):
    fit_case(MAE, data_dir, tmp_path, PatchMap(every_n_epochs=1), max_epochs=4)
    folder = tmp_path / "figures" / "patch_map"
    frames = [np.load(folder / f"epoch={epoch}.npz") for epoch in range(4)]
    for earlier, later in pairwise(frames):
        assert np.array_equal(earlier["index"], later["index"])
        for key in ("components", "components_centered"):
            for k in range(3):
                assert np.corrcoef(earlier[key][:, k].flatten(), later[key][:, k].flatten())[0, 1] > 0


@pytest.mark.parametrize("method, number", [("SimCLR", 0), ("Autoencoder", 1), ("CMC", 0), ("VAE", 1)])
def test_convolutions_have_a_picture_as_well(method, number, data_dir, tmp_path):
    fit_case(find_case(method, number), data_dir, tmp_path, PatchMap(images=4))
    facts, arrays = read_figure(tmp_path, "patch_map")
    assert facts["kind"] == "cells of the last maps" and np.isfinite(arrays["components"]).all()


def test_fewer_images_than_asked_of_one_channel_without_classes(tmp_path):
    write_random(tmp_path / "tiny", train=20, test=8, size=16, channels=1)
    for split in ("train", "test"):
        (tmp_path / "tiny" / f"{split}_labels.npy").unlink()
    case = MAE._replace(encoder=lambda norm: ViT(16, patch_size=8, width=8, depth=1, heads=1, in_channels=1))
    data = build_tiny_data(case, tmp_path, val_size=2)
    fit_case(case, tmp_path, tmp_path, PatchMap(), data=data)
    assert read_figure(tmp_path, "patch_map")[1]["components"].shape == (2, 3, 2, 2)


def test_numbers_as_labels_have_a_picture(tmp_path):
    fit_case(MAE, write_numbers(tmp_path), tmp_path, PatchMap(images=2))
    assert read_figure(tmp_path, "patch_map")[1]["labels"].shape == (2, 2)


class OneCell(nn.Module):
    dim, pooled = 4, True

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 16)

    def maps(self, view):
        return self.layer(view)

    def forward(self, view):
        return self.maps(view).mean((2, 3))


@pytest.mark.parametrize(
    "case, reason",
    [
        (find_case("VAE"), "VAEMLP has no maps"),
        (find_case("NextCharacter"), "CharLSTM has no maps"),
        (
            find_case("SimCLR")._replace(encoder=lambda norm: OneCell()),
            "the maps of OneCell have a single cell",
        ),
    ],
)
def test_one_line_says_why_there_is_no_picture(case, reason, data_dir, tmp_path):
    fit_case(case, data_dir, tmp_path, callback := PatchMap())
    assert callback.skip_reason == reason and not (tmp_path / "figures").exists()
