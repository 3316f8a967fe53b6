"""Plain crops: exact pixels at a random place in training, the central ones elsewhere."""

import re

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from datamodules.arrays import Arrays
from datamodules.augmentation.augment import COLUMNS, augment_images, draw_params
from datamodules.augmentation.geometry import crop_center
from datamodules.augmentation.recipe import Recipe, check_recipe
from tests.conftest import write_random
from tests.data_modules import CPU, set_up_data, setup_error, transfer_batch
from tests.draws import make_generator
from tests.errors import refused_in_one_line
from tests.test_augment import SIMCLR, assert_same_moments, smooth_images, to_float


def slice_crops(images, params, side):
    """The pixels that the parameters name, sliced out one image at a time: (B, C, side, side) in [0, 1]."""
    views = []
    for image, row in zip(to_float(images), params, strict=True):
        values = dict(zip(COLUMNS, row.int().tolist(), strict=True))
        assert (values["height"], values["width"]) == (side, side)
        crop = image[:, values["top"] : values["top"] + side, values["left"] : values["left"] + side]
        views.append(crop.flip(2) if values["flip"] else crop)
    return torch.stack(views)


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("flip", [0.0, 0.5])
@pytest.mark.parametrize("height, width, side", [(96, 96, 64), (40, 56, 23), (56, 40, 40), (16, 16, 1)])
def test_a_crop_is_a_slice(height, width, side, flip, color):
    images, recipe = smooth_images(12, height, width), Recipe(crop=side, flip=flip)
    params = draw_params(recipe, 12, (height, width), make_generator())
    views = augment_images(images, recipe, params, color=color)
    torch.testing.assert_close(views, slice_crops(images, params, side), atol=1e-6, rtol=0)
    assert len(params[:, :2].unique(dim=0)) > 6 and (0 < params[:, 4].sum() < 12) == (flip > 0)


def test_a_crop_of_the_whole_image_is_the_image():
    images, recipe = smooth_images(), Recipe(crop=32)
    views = augment_images(images, recipe, draw_params(recipe, 6, (32, 32), make_generator()))
    torch.testing.assert_close(views, to_float(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pad, side", [(4, 32), (2, 36), (8, 16)])
def test_a_padded_crop_is_a_slice_of_the_image_with_a_black_border(pad, side):
    images, recipe = smooth_images(12), Recipe(crop=side, pad=pad, flip=0.5)
    params = draw_params(recipe, 12, (32, 32), make_generator())
    bordered = TF.pad(images.permute(0, 3, 1, 2), [pad] * 4).permute(0, 2, 3, 1)
    places = params + torch.tensor([pad, pad, *[0] * (len(COLUMNS) - 2)])
    views = augment_images(images, recipe, params)
    torch.testing.assert_close(views, slice_crops(bordered, places, side), atol=1e-6, rtol=0)


def test_padded_places_are_drawn_as_torchvision_draws_them():
    torch.manual_seed(0)
    crop = v2.RandomCrop(32, padding=4)
    theirs = [crop.make_params([torch.empty(3, 32, 32)]) for _ in range(4000)]
    ours = draw_params(Recipe(crop=32, pad=4), 16000, (32, 32), make_generator())
    for column, name in ((0, "top"), (1, "left")):
        assert_same_moments(ours[:, column] + 4, torch.tensor([float(place[name]) for place in theirs]))
        assert ours[:, column].unique().tolist() == list(range(-4, 5))


def test_a_crop_is_resized_to_another_size_as_torchvision_does():
    images, recipe = smooth_images(6, 48, 64), Recipe(crop=40)
    params = draw_params(recipe, 6, (48, 64), make_generator())
    theirs = TF.resize(slice_crops(images, params, 40), [32, 32], antialias=True)
    torch.testing.assert_close(augment_images(images, recipe, params, size=32), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("height, width", [(96, 96), (64, 80)])
def test_places_are_drawn_as_torchvision_draws_them(height, width):
    torch.manual_seed(0)
    theirs = [v2.RandomCrop(64).make_params([torch.empty(3, height, width)]) for _ in range(4000)]
    ours = draw_params(Recipe(crop=64), 16000, (height, width), make_generator())
    for column, name, room in ((0, "top", height - 64), (1, "left", width - 64)):
        assert_same_moments(ours[:, column], torch.tensor([float(place[name]) for place in theirs]))
        assert ours[:, column].unique().tolist() == list(range(room + 1))


def test_a_crop_changes_no_other_draw():
    plain, state = Recipe(flip=0.5, jitter=0.8, brightness=0.4, blur=0.5), make_generator()
    cropped, other = Recipe(crop=24, flip=0.5, jitter=0.8, brightness=0.4, blur=0.5), make_generator()
    before, after = draw_params(plain, 8, (32, 32), state), draw_params(cropped, 8, (32, 32), other)
    assert torch.equal(before[:, 4:], after[:, 4:]) and torch.equal(state.get_state(), other.get_state())


def test_draws_are_those_of_the_first_version():
    """Seeds of stored configs go on meaning what they meant."""
    params = draw_params(SIMCLR, 2, (32, 32), make_generator())[1]
    first = [10, 7, 18, 19, 0, 0.7934, 1.1810, 1.1609, -0.0592, 0, 1.3370, 1]
    assert params[:12].tolist() == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize("wrong, size, words", [
    ({"crop": 97}, (96, 128), "crop = 97 does not fit images of 96 x 128: set it between 0 and 96"),
    ({"crop": 105, "pad": 4}, (96, 96), "crop = 105 does not fit"),
    ({"pad": 4}, (96, 96), "pad = 4 needs a crop"),
    ({"crop": 64, "scale": (0.2, 1.0)}, (96, 96), "crop = 64 and a resized crop are two"),
    ({"crop": 64, "ratio": (0.75, 1.33)}, (96, 96), "crop = 64 and a resized crop are two"),
])  # fmt: skip
def test_a_crop_that_cannot_be_is_refused(wrong, size, words):
    with refused_in_one_line(re.escape(words)):
        check_recipe(Recipe(**wrong), *size, channels=3)


# --- in a data module


@pytest.mark.parametrize("height, width, side", [(96, 96, 64), (33, 50, 20), (33, 50, 33), (7, 8, 4)])
def test_the_central_part_is_torchvisions(height, width, side):
    images = smooth_images(2, height, width)
    theirs = TF.center_crop(images.permute(0, 3, 1, 2), [side, side])
    assert torch.equal(crop_center(images, side).permute(0, 3, 1, 2), theirs)


@pytest.fixture
def wide(tmp_path):
    """Images of 24 x 32 pixels, larger ones without labels."""
    write_random(tmp_path / "wide", size=32, unlabeled=40)
    for split in ("train", "test"):
        path = tmp_path / "wide" / f"{split}_images.npy"
        np.save(path, np.load(path)[:, 4:28])
    return tmp_path


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "bank_dataloader"])
def test_all_but_training_sees_the_center(wide, loader):
    data = Arrays("wide", data_dir=wide, views=[Recipe(crop=16)], center_crop=16, mean=[0.0], std=[1.0])
    stored = next(iter(getattr(set_up_data(data), loader)()))
    (view, *_), *_ = transfer_batch(data, stored)
    assert torch.equal(view, to_float(stored[0])[:, :, 4:20, 8:24])


def test_training_sees_crops_of_the_whole_image(wide):
    recipes = [Recipe(crop=16, flip=0.5)] * 2
    data = Arrays("wide", data_dir=wide, views=recipes, center_crop=8, batch_size=88, mean=[0.0], std=[1.0])
    stored = next(iter(set_up_data(data, training=True).train_dataloader()))
    (x1, x2), *_ = transfer_batch(data, stored)
    assert x1.shape == x2.shape == (88, 3, 16, 16)
    generator = torch.Generator().manual_seed(stored[-1].number)
    for view in (x1, x2):
        params = draw_params(data.views[0], 88, (24, 32), generator)
        torch.testing.assert_close(view, slice_crops(stored[0], params, 16), atol=1e-6, rtol=0)


def test_size_is_the_side_of_every_view_of_a_crop(wide):
    data = Arrays("wide", data_dir=wide, views=[Recipe(crop=16)], center_crop=20, size=12, batch_size=8)
    set_up_data(data, training=True)
    for augmented in (True, False):
        (view,), *_ = data.prepare_batch(next(iter(data.train_dataloader())), CPU, augment=augmented)
        assert view.shape == (8, 3, 12, 12)


def test_a_center_that_no_image_has_is_refused(wide):
    text = setup_error(Arrays("wide", data_dir=wide, center_crop=25))
    assert "center_crop: 25 of images of 24 x 32" in text and "train_images.npy" in text


def test_a_crop_must_fit_every_stream_that_is_cropped(wide):
    """Views are also shown of labeled images."""
    data = Arrays("wide", data_dir=wide, views=[Recipe(crop=28)], train_on="unlabeled")
    assert "crop = 28 does not fit images of 24 x 32" in setup_error(data)
