"""Views of several sizes and several copies: in the data module, on the device, in pictures and in what is exported."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from matplotlib import pyplot as plt

from callbacks.figures.views import Views, draw_views
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from datamodules.loading import resident
from tests.conftest import command_line
from tests.data_modules import CPU, set_up_data, transfer_batch
from tests.errors import refused_in_one_line
from tests.figure_runs import find_case, fit_case, read_figure
from tests.runs import write_run

LARGE = Recipe(scale=(0.4, 1.0), ratio=(0.75, 1.33), flip=0.5, jitter=0.8, brightness=0.4, hue=0.1, copies=2)
SMALL = replace(LARGE, scale=(0.1, 0.4), size=8, copies=3, blur=0.5)
SIZES = [16, 16, 8, 8, 8]


def make_data(data_dir, views=(LARGE, SMALL), rank=0, world=1, batch_size=12, **options):
    data = Arrays("tiny", data_dir=data_dir, views=list(views), batch_size=batch_size, **options)
    return set_up_data(data, training=True, rank=rank, world=world)


def read_views(data, batches=2):
    """The views of the first batches of an epoch."""
    loader = data.train_dataloader()
    return [transfer_batch(data, stored).views for _, stored in zip(range(batches), loader, strict=False)]


def assert_equal_views(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- in the data module


def test_views_come_in_order_each_with_draws_of_its_own(data_dir):
    data = make_data(data_dir)
    assert [recipe.size for recipe in data.recipes] == SIZES
    assert [recipe.scale for recipe in data.recipes] == [LARGE.scale] * 2 + [SMALL.scale] * 3
    for views in read_views(data):
        assert [tuple(view.shape) for view in views] == [(12, 3, size, size) for size in SIZES]
        assert all(view.dtype == torch.float32 for view in views)
        for i, j in [(0, 1), (2, 3), (2, 4), (3, 4)]:
            assert not torch.equal(views[i], views[j])


@pytest.mark.parametrize("color", ["exact", "fast"])
def test_copies_draw_what_equal_recipes_draw(data_dir, color):
    large, small = (replace(recipe, copies=1) for recipe in (LARGE, SMALL))
    spelled_out = make_data(data_dir, [large, large, small, small, small], color=color)
    assert_equal_views(read_views(make_data(data_dir, color=color)), read_views(spelled_out))


def test_views_that_come_first_do_not_depend_on_those_after(data_dir):
    both, alone = read_views(make_data(data_dir)), read_views(make_data(data_dir, [LARGE]))
    assert_equal_views([views[:2] for views in both], alone)


def test_two_processes_make_the_rows_of_one(data_dir):
    loaders = [make_data(data_dir, rank=rank, world=2, batch_size=6) for rank in range(2)]
    for whole, *halves in zip(read_views(make_data(data_dir)), *map(read_views, loaders), strict=True):
        for view, *parts in zip(whole, *halves, strict=True):
            # rows are dealt out in turn or in blocks: each is on one process
            rows = {row.numpy().tobytes() for part in parts for row in part}
            assert rows == {row.numpy().tobytes() for row in view} and len(rows) == 12


def test_the_size_of_a_recipe_is_the_size_of_the_data_module(data_dir):
    plain = replace(LARGE, size=0)
    by_recipe = make_data(data_dir, [replace(plain, size=11)])
    assert_equal_views(read_views(by_recipe), read_views(make_data(data_dir, [plain], size=11)))
    both = make_data(data_dir, [plain, SMALL], size=11)  # a recipe's own comes first
    assert [recipe.size for recipe in both.recipes] == [view.shape[2] for view in read_views(both)[0]]
    assert [recipe.size for recipe in both.recipes] == [11, 11, 8, 8, 8]
    assert both.read_batch("bank", np.arange(3), CPU).views[0].shape == (3, 3, 11, 11)


@pytest.mark.parametrize("wrong, words", [
    ({"copies": 0}, "copies = 0 is a number of views: set it to 1 or more"),
    ({"copies": -2}, "copies = -2 is a number of views"),
])  # fmt: skip
def test_impossible_sizes_and_copies_are_refused_in_one_line(data_dir, wrong, words):
    with refused_in_one_line(words):
        set_up_data(Arrays("tiny", data_dir=data_dir, views=[LARGE, replace(SMALL, **wrong)]))


# --- on the device


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile found to compile; it runs as it is, without a compiler."""
    graphs, real = [], torch.compile

    def keep(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend=keep, fullgraph=True))
    torch.compiler.reset()
    yield graphs
    torch.compiler.reset()


@pytest.mark.parametrize("color", ["exact", "fast"])
def test_a_compiled_augmentation_has_one_graph_for_each_size(data_dir, color, graphs):
    views = read_views(make_data(data_dir, compile=True, color=color), batches=5)
    expected = read_views(make_data(data_dir, color=color), batches=5)
    for ours, theirs in zip(views, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert len(graphs) == 2


@pytest.mark.slow
def test_what_the_real_compiler_makes_of_two_sizes(data_dir):
    torch.compiler.reset()
    views, expected = (read_views(make_data(data_dir, compile=asked), batches=2) for asked in (True, False))
    for ours, theirs in zip(views, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rank, world", [(0, 1), (1, 2)])
def test_resident_images_give_the_same_views(data_dir, monkeypatch, rank, world):
    monkeypatch.setattr(resident, "free_bytes", lambda device: 2**30)
    loaded = make_data(data_dir, rank=rank, world=world)
    kept = Arrays("tiny", data_dir=data_dir, views=[LARGE, SMALL], batch_size=12, resident=True)
    kept.trainer = SimpleNamespace(**vars(loaded.trainer), strategy=SimpleNamespace(root_device=CPU))
    kept.setup("fit")
    assert kept.datasets["train"].resident is not None
    assert_equal_views(read_views(kept), read_views(loaded))


# --- seen


def test_the_picture_of_views_has_each_size_to_one_scale(data_dir, tmp_path):
    case = find_case("DINO")
    data = Arrays("tiny", data_dir=data_dir, views=[LARGE, SMALL], batch_size=16)
    fit_case(case, data_dir, tmp_path, Views(images=4, draws=3), data=data)
    _, arrays = read_figure(tmp_path, "views")
    shapes = {"original": (4, 16, 16, 3), "views": (4, 2, 16, 16, 3), "views_8": (4, 3, 8, 8, 3)}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert all(array.dtype == np.uint8 for array in arrays.values())
    batch = data.read_batch("bank", np.arange(4), CPU, augment=True, key=0)
    drawn = [*arrays["views"].swapaxes(0, 1), *arrays["views_8"].swapaxes(0, 1)]
    assert all(np.array_equal(a, data.display(b)) for a, b in zip(drawn, batch.views, strict=True))


def test_small_views_are_drawn_small_and_named():
    original = np.zeros((30, 32, 32, 3), np.uint8)  # so many rows that their height is what limits them
    figure = draw_views(original, [np.zeros((30, side, side, 3), np.uint8) for side in (32, 32, 16)])
    figure.canvas.draw()
    row = figure.axes[:4]
    # how wide a pixel of each picture is drawn
    widths = [np.diff(axis.transData.transform([(0, 0), (1, 0)])[:, 0]) for axis in row]
    assert np.allclose(widths, widths[0])
    assert row[0].get_title() == "original"
    assert row[1].get_title(loc="left") == "views as trained on, of 32 and 16 px"
    plt.close(figure)


# --- exported


@pytest.mark.usefixtures("untouched_process")
@pytest.mark.parametrize("size, expected", [(None, 16), (12, 12)])
def test_export_tells_the_input_that_the_encoder_is_judged_on(data_dir, tmp_path, size, expected):
    spec = {"class_path": "ssl_modules.networks.resnet.ResNet", "init_args": {"widths": [8], "blocks": [1]}}
    ckpt = write_run(tmp_path / "run", spec, data_dir)
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    views = [{"copies": 2, "size": 24}, {"copies": 4, "size": 8}]
    config["data"]["init_args"] |= {"views": views} | ({"size": size} if size else {})
    path.write_text(yaml.safe_dump(config))
    assert command_line("export", "--ckpt_path", ckpt, "--output", tmp_path / "encoder") == 0
    card = json.loads((tmp_path / "encoder" / "card.json").read_text())
    assert card["input"]["shape"] == ["B", 3, expected, expected]
    data = Arrays("tiny", data_dir=data_dir, views=[Recipe(**view) for view in views], size=size)
    data.setup("fit")
    assert data.read_batch("val", np.arange(2), CPU).views[0].shape == (2, 3, expected, expected)
