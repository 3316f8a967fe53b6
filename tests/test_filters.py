"""Pictures of weights: they hold exactly the weights, and any layer can be asked for."""

import numpy as np
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from matplotlib.image import imread
from torch import nn

from callbacks.figures.filters import Filters, collect_weights, name_gates, reshape_to_filters, select_layers
from callbacks.plotting.filter_grid import (
    arrange_tiles,
    draw_filters,
    draw_matrix,
    filter_grid,
    filter_tile,
    rms_over_channels,
    scale_weights,
)
from ssl_modules.networks.resnet import ResNet
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    write_numbers,
)
from tests.methods import build


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_tiles_of_a_mosaic_are_the_tiles():
    tiles = random(7, 4, 5)
    drawn = arrange_tiles(tiles, columns=3, gap=2)
    assert drawn.shape == (3 * 6 - 2, 3 * 7 - 2)
    for k, tile in enumerate(tiles):
        top, left = k // 3 * 6, k % 3 * 7
        assert np.array_equal(drawn[top : top + 4, left : left + 5], tile)
    assert (drawn[4:6] == 1).all() and (drawn[12:, 7:] == 1).all()  # gaps and what is left over


@pytest.mark.parametrize("channels", [1, 2, 3, 12])
def test_the_picture_holds_exactly_the_weights(channels):
    filters = random(10, channels, 3, 4)
    drawn = filter_grid(filters)
    gap = 1 if channels in (1, 3) else 3
    width = 4 if channels in (1, 3) else 5 * channels - 1
    columns = (drawn.shape[1] + gap) // (width + gap)
    for k, weight in enumerate(filters):
        top, left = k // columns * (3 + gap), k % columns * (width + gap)
        tile = drawn[top : top + 3, left : left + width]
        back = (2 * tile - 1) * abs(weight).max()
        for c in range(channels):
            channel = back[..., c] if channels == 3 else back[:, 5 * c : 5 * c + 4]
            np.testing.assert_allclose(channel, weight[c], atol=1e-6)


def test_many_channels_are_drawn_by_their_root_mean_square():
    weight = random(20, 2, 3)
    by_hand = (
        np.array([[sum(weight[c, y, x] ** 2 for c in range(20)) / 20 for x in range(3)] for y in range(2)])
        ** 0.5
    )
    np.testing.assert_allclose(rms_over_channels(weight), by_hand / by_hand.max(), rtol=1e-5)
    np.testing.assert_allclose(
        filter_tile(weight, every_channel=False), 1 - by_hand / by_hand.max(), atol=1e-6
    )
    assert filter_tile(weight, every_channel=True).shape == (2 * 3 - 1, 16 * 4 - 1)


def test_collect_weights_zero_are_mid_gray():
    assert (scale_weights(np.zeros((3, 2, 2), np.float32)) == 0.5).all()
    assert rms_over_channels(np.zeros((5, 2, 2), np.float32)).max() == 0


def test_matrices_on_pixels_are_images_and_others_are_not():
    reads, paints, other = random(8, 48), random(48, 8), random(8, 47)
    assert (
        reshape_to_filters(reads, (3, 4, 4)).shape
        == reshape_to_filters(paints, (3, 4, 4)).shape
        == (8, 3, 4, 4)
    )
    assert np.array_equal(reshape_to_filters(reads, (3, 4, 4))[2].reshape(-1), reads[2])
    assert np.array_equal(reshape_to_filters(paints, (3, 4, 4))[2].reshape(-1), paints[:, 2])
    assert reshape_to_filters(other, (3, 4, 4)) is None and reshape_to_filters(reads, (48,)) is None
    axis, bar = draw_matrix("a.layer", other, ()).axes
    assert np.array_equal(axis.images[0].get_array(), other) and bar is not None


def test_layers_go_by_name_or_position():
    weights = collect_weights(build(find_case("Autoencoder")))
    names = list(weights)
    assert names == ["encoder.layers.0", "encoder.layers.2", "decoder.1", "decoder.3"]
    selected = select_layers(["layers.2", 0, "decoder.3", -1], weights)
    assert selected == [names[1], names[0], names[3], names[3]]
    with pytest.raises(
        MisconfigurationException, match=r"no layer 'layer.2': .* from 0 to 3, .*encoder\.layers\.2"
    ):
        select_layers(["layer.2"], weights)
    with pytest.raises(MisconfigurationException, match="no layer 4"):
        select_layers([4], weights)


def test_by_default_they_are_the_first_and_a_middle_convolution():
    encoder = nn.ModuleDict({"encoder": ResNet(widths=[8, 16], blocks=[1, 1])})
    assert select_layers(None, collect_weights(encoder)) == ["encoder.stem.0", "encoder.stages.0.residual.3"]
    pair = select_layers(None, collect_weights(build(find_case("CMC"))))
    assert pair == ["encoder.luminance.stem.0", "encoder.chromaticity.stem.0"]  # of both networks
    assert select_layers(None, collect_weights(build(find_case("VAE")))) == [
        "encoder.heads",
        "encoder.trunk.1",
    ]  # no convolutions


def test_an_lstms_gates_are_named():
    module = nn.ModuleDict({"lstm": nn.LSTM(5, 4), "linear": nn.Linear(5, 4)})
    assert list(collect_weights(module)) == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "linear"]
    gates = name_gates(module, "lstm.weight_hh_l0")
    assert (
        gates == ("input gate", "forget gate", "cell", "output gate") and name_gates(module, "linear") == ()
    )
    axis = draw_matrix("lstm.weight_hh_l0", random(16, 4), gates).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(gates)
    assert axis.get_yticks().tolist() == [1.5, 5.5, 9.5, 13.5]


def test_every_weight_has_a_pixel_on_paper():
    for filters in (random(300, 3, 40, 40), random(4, 3, 2, 2)):
        figure = draw_filters("a.layer", filters)
        (axis,) = figure.axes
        pixels = axis.get_window_extent().width * 150 / figure.dpi
        assert pixels >= 0.98 * filter_grid(filters).shape[1]


@pytest.mark.parametrize(
    "method, number, layers, shapes",
    [
        ("SimCLR", 0, None, [(8, 3, 2, 2), (8, 8, 3, 3)]),
        ("CMC", 0, None, [(8, 1, 2, 2), (8, 2, 2, 2)]),
        ("VAE", 0, [0, "trunk.1", "decoder.2"], [(16, 32), (32, 768), (768, 32)]),
        ("Autoencoder", 0, [0, "decoder.3"], [(8, 3, 4, 4), (8, 3, 4, 4)]),
        ("Classifier", 0, ["head"], [(4, 16)]),
    ],
)
def test_the_data_beside_the_picture_are_exactly_the_weights(
    method, number, layers, shapes, data_dir, tmp_path
):
    trainer = fit_case(find_case(method, number), data_dir, tmp_path, Filters(layers))
    weights = collect_weights(trainer.lightning_module)
    chosen = select_layers(layers, weights)
    folders = {path.name for path in (tmp_path / "figures").iterdir()}
    assert folders == {f"filters.{name}" for name in chosen}
    for name, shape in zip(chosen, shapes, strict=True):
        _, arrays = read_figure(tmp_path, f"filters.{name}")
        assert list(arrays) == [name] and arrays[name].shape == shape
        parameter = trainer.lightning_module.get_parameter(f"{name}.weight")
        assert np.array_equal(arrays[name], parameter.detach().numpy())


def test_single_filters_are_files_when_asked(data_dir, tmp_path):
    fit_case(find_case("SimCLR"), data_dir, tmp_path, Filters(["stem.0", 3], each=True))
    files = sorted((tmp_path / "figures/filters.encoder.stem.0/epoch=0").iterdir())
    assert [file.name for file in files] == [f"{k}.png" for k in range(8)]
    (_, arrays) = read_figure(tmp_path, "filters.encoder.stem.0")
    first = imread(files[5])[..., :3]
    assert first.shape == (64, 64, 3)
    np.testing.assert_allclose(
        first[::32, ::32], scale_weights(arrays["encoder.stem.0"][5]).transpose(1, 2, 0), atol=1 / 255
    )


def test_an_lstm_and_data_without_classes_have_pictures(data_dir, tmp_path):
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, Filters(each=True))
    folders = {path.name for path in (tmp_path / "figures").iterdir()}
    assert folders == {"filters.encoder.lstm.weight_ih_l0", "filters.encoder.lstm.weight_hh_l0"}
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path / "numbers", Filters())
    read_figure(tmp_path / "numbers", "filters.encoder.stem.0")


def test_an_unknown_layer_stops_a_run_before_it_starts(data_dir, tmp_path):
    with pytest.raises(MisconfigurationException, match=r"no layer 'steam\.0': .*encoder\.stem\.0"):
        fit_case(find_case("SimCLR"), data_dir, tmp_path, Filters(["steam.0"]))
