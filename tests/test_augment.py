"""The batched augmentation does what torchvision does to one image, and draws what torchvision draws."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from datamodules.augmentation.augment import COLUMNS, augment_images, draw_params
from datamodules.augmentation.geometry import rotate_images
from datamodules.augmentation.recipe import Recipe, check_recipe
from tests.draws import make_generator
from tests.errors import refused_in_one_line

SIMCLR = Recipe(
    scale=(0.2, 1.0),
    ratio=(3 / 4, 4 / 3),
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.2,
    blur=0.5,
    solarize=0.2,
)


def smooth_images(n: int = 6, height: int = 32, width: int = 32, channels: int = 3) -> torch.Tensor:
    """Smooth colors with some noise, like photographs: uint8 (n, height, width, channels)."""
    smooth = F.interpolate(
        torch.rand(n, channels, 4, 4, generator=make_generator()), (height, width), mode="bicubic"
    )
    noise = torch.randn(n, channels, height, width, generator=make_generator(1))
    return (255 * (0.9 * smooth + 0.03 * noise).clamp(0, 1)).byte().permute(0, 2, 3, 1).contiguous()


def to_float(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def fixed_params(n: int, size: tuple[int, int], **columns) -> torch.Tensor:
    """Parameters of n images that do nothing except what `columns` say."""
    neutral = {"height": size[0], "width": size[1], "brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    return torch.tensor([[float((neutral | columns).get(name, 0)) for name in COLUMNS]]).repeat(n, 1)


CROPS = Recipe(scale=(0.5, 1.0), flip=0.5)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("height, width, box, size", [
    (32, 32, (3, 5, 20, 13), 32),
    (32, 32, (31, 0, 1, 32), 32),
    (32, 32, (0, 0, 32, 32), 24),
    (40, 56, (7, 9, 31, 40), 16),
    (96, 64, (0, 3, 96, 50), 64),
])  # fmt: skip
def test_crop_resize_flip_is_torchvisions(height, width, box, size, flip):
    images = smooth_images(2, height, width)
    columns = dict(zip(COLUMNS[:4], box, strict=True))
    ours = augment_images(images, CROPS, fixed_params(2, (height, width), flip=flip, **columns), size)
    theirs = TF.resized_crop(to_float(images), *box, [size, size], antialias=True)
    theirs = TF.horizontal_flip(theirs) if flip else theirs
    torch.testing.assert_close(ours, theirs, atol=2e-6 if size == height == width else 1e-3, rtol=0)


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [31, 32])
def test_a_rotation_by_right_angles_is_exact(turns, channels, side):
    images = smooth_images(3, side, side, channels)
    ours = augment_images(images, Recipe(rotate=180), fixed_params(3, (side, side), angle=90.0 * turns))
    torch.testing.assert_close(ours, torch.rot90(to_float(images), turns, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("height, width", [(32, 32), (24, 40)])
@pytest.mark.parametrize("angle", [-130.0, 10.0, 45.0, 179.0])
def test_rotation_is_torchvisions(height, width, angle):
    images, bilinear = smooth_images(2, height, width), TF.InterpolationMode.BILINEAR
    ours = rotate_images(images, torch.full((2,), angle)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(ours, TF.rotate(to_float(images), angle, bilinear), atol=1e-4, rtol=0)


def test_a_rotation_comes_before_crop_and_flip():
    images, recipe = smooth_images(2), replace(CROPS, rotate=180)
    box = {"top": 3, "left": 5, "height": 20, "width": 13, "flip": 1}
    turned = torch.rot90(images, 1, (1, 2))
    ours = augment_images(images, recipe, fixed_params(2, (32, 32), angle=90, **box), 24)
    theirs = augment_images(turned, CROPS, fixed_params(2, (32, 32), **box), 24)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_angles_are_uniform_and_change_no_other_draw():
    without_angle, params = (
        draw_params(recipe, 5000, (32, 32), make_generator())
        for recipe in (SIMCLR, replace(SIMCLR, rotate=30))
    )
    column = COLUMNS.index("angle")
    angle, uniform = params[:, column].clone(), 60 * torch.rand(20000, generator=make_generator(1)) - 30
    params[:, column] = 0
    assert torch.equal(without_angle, params)  # where nothing turns, the angle is 0
    assert_same_moments(angle, uniform)
    assert angle.min() >= -30 and angle.max() <= 30


COLOR = {
    "brightness": (TF.adjust_brightness, (0.0, 0.6, 1.4)),
    "contrast": (TF.adjust_contrast, (0.0, 0.6, 1.4)),
    "saturation": (TF.adjust_saturation, (0.0, 0.6, 1.4)),
    "hue": (TF.adjust_hue, (-0.5, -0.1, 0.0, 0.3)),
}


@pytest.mark.parametrize(
    "name, channels", [*((name, 3) for name in COLOR), ("brightness", 1), ("contrast", 1)]
)
def test_color_is_torchvisions(name, channels):
    function, factors = COLOR[name]
    images = smooth_images(channels=channels)
    images[0] = images[0, :1, :1]  # one color
    images[1] = (images[1] > 127).to(torch.uint8) * 255  # the corners of the color cube
    for factor in factors:
        ours = augment_images(
            images, Recipe(jitter=1.0, **{name: 0.4}), fixed_params(6, (32, 32), **{name: factor})
        )
        torch.testing.assert_close(ours, function(to_float(images), factor), atol=1e-5, rtol=0)


def test_gray_and_solarize_are_torchvisions():
    images = smooth_images()
    gray = augment_images(images, Recipe(gray=1.0), fixed_params(6, (32, 32), gray=1))
    torch.testing.assert_close(gray, TF.rgb_to_grayscale(to_float(images), 3), atol=1e-5, rtol=0)
    solarized = augment_images(images, Recipe(solarize=1.0), fixed_params(6, (32, 32), solarize=1))
    torch.testing.assert_close(solarized, TF.solarize(to_float(images), 0.5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("size, kernel", [(20, 3), (32, 3), (64, 7), (96, 9)])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_torchvisions(size, kernel, sigma, color):
    images = smooth_images(2, size, size)
    ours = augment_images(images, Recipe(blur=1.0), fixed_params(2, (size, size), sigma=sigma), color=color)
    theirs = TF.gaussian_blur(to_float(images), [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_whole_recipe_in_its_order():
    images, params = smooth_images(32), draw_params(SIMCLR, 32, (32, 32), make_generator())
    ours = augment_images(images, SIMCLR, params, size=24, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    for row, x, view in zip(params, to_float(images), ours, strict=True):
        values = dict(zip(COLUMNS, row.tolist(), strict=True))
        x = TF.resized_crop(x, *(int(values[name]) for name in COLUMNS[:4]), [24, 24], antialias=True)
        x = TF.horizontal_flip(x) if values["flip"] else x
        for name, (function, _) in COLOR.items():
            x = function(x, values[name])
        x = TF.rgb_to_grayscale(x, 3) if values["gray"] else x
        x = TF.gaussian_blur(x, [3, 3], [values["sigma"]] * 2) if values["sigma"] else x
        close = (x - 0.5).abs() < 1e-4  # to the threshold of solarize, where rounding decides
        x = TF.normalize(TF.solarize(x, 0.5) if values["solarize"] else x, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
        torch.testing.assert_close(view[~close], x[~close], atol=2e-4, rtol=0)


def assert_same_moments(ours: torch.Tensor, theirs: torch.Tensor):
    """Means within five standard errors, standard deviations within 5 %."""
    error = (ours.var() / len(ours) + theirs.var() / len(theirs)).sqrt()
    assert (ours.mean() - theirs.mean()).abs() <= 5 * error + 1e-6
    torch.testing.assert_close(ours.std(), theirs.std(), atol=1e-6, rtol=0.05)


@pytest.mark.parametrize(
    "height, width, ratio", [(32, 32, (3 / 4, 4 / 3)), (48, 20, (3 / 4, 4 / 3)), (20, 48, (1.0, 1.0))]
)
def test_boxes_are_drawn_as_torchvision_draws_them(height, width, ratio):
    torch.manual_seed(0)
    image, scale, n = torch.empty(3, height, width), (0.2, 1.0), 4000
    theirs = torch.tensor(
        [[*v2.RandomResizedCrop(8, scale, ratio).make_params([image]).values()] for _ in range(n)]
    )
    ours = draw_params(Recipe(scale=scale, ratio=ratio), 4 * n, (height, width), make_generator())[:, :4]
    for column in range(4):
        assert_same_moments(ours[:, column], theirs[:, column].float())
    assert_same_moments(ours[:, 2] * ours[:, 3], (theirs[:, 2] * theirs[:, 3]).float())
    assert_same_moments(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])
    assert (
        (ours[:, 0] + ours[:, 2]).max() <= height
        and (ours[:, 1] + ours[:, 3]).max() <= width
        and ours.min() >= 0
    )


def test_colors_are_drawn_as_torchvision_draws_them():
    torch.manual_seed(0)
    n, recipe = 4000, Recipe(jitter=1.0, brightness=1.5, contrast=0.4, saturation=0.3, hue=0.1)
    jitter = v2.ColorJitter(1.5, 0.4, 0.3, 0.1)
    params = [jitter.make_params([]) for _ in range(n)]
    ours = dict(zip(COLUMNS, draw_params(recipe, 4 * n, (32, 32), make_generator()).unbind(1), strict=True))
    for name in COLOR:
        assert_same_moments(ours[name], torch.tensor([p[f"{name}_factor"] for p in params]))


def test_probabilities_are_shares():
    recipe = Recipe(flip=0.5, jitter=0.8, brightness=0.4, gray=0.2, blur=0.3, sigma=(0.5, 1.5), solarize=0.1)
    params = dict(zip(COLUMNS, draw_params(recipe, 20000, (32, 32), make_generator()).unbind(1), strict=True))
    for column, share in [
        (params["flip"], 0.5),
        (params["brightness"] != 1, 0.8),
        (params["gray"], 0.2),
        (params["sigma"] > 0, 0.3),
        (params["solarize"], 0.1),
    ]:
        assert column.float().mean().item() == pytest.approx(share, abs=0.015)
    sigma = params["sigma"][params["sigma"] > 0]
    assert sigma.min() >= 0.5 and sigma.max() <= 1.5 and sigma.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_with_nothing_to_do_it_does_nothing(channels, color):
    images = smooth_images(channels=channels)
    before = images.clone()
    assert torch.equal(
        augment_images(images, Recipe(), draw_params(Recipe(), 6, (32, 32), make_generator()), color=color),
        to_float(images),
    )
    assert torch.equal(images, before)


def test_a_draw_that_does_nothing_does_nothing():
    images = smooth_images()
    torch.testing.assert_close(
        augment_images(images, SIMCLR, fixed_params(6, (32, 32))), to_float(images), atol=2e-6, rtol=0
    )


def test_cutout_is_a_square_around_a_pixel_that_any_may_be():
    n, side, size = 3000, 5, 12
    recipe = Recipe(cutout=side)
    views = augment_images(
        torch.full((n, size, size, 3), 255, dtype=torch.uint8),
        recipe,
        draw_params(recipe, n, (size, size), make_generator()),
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    centers = torch.zeros(size, size)
    for view in views:
        (hole,) = {tuple(channel.eq(0).flatten().tolist()) for channel in view}  # the same in each channel
        hole = torch.tensor(hole).view(size, size)
        assert (view[:, ~hole] == 2).all()
        (rows, columns) = (hole.any(dim).nonzero().flatten() for dim in (1, 0))
        assert hole.sum() == len(rows) * len(columns)  # a rectangle
        middle = []
        for line in (rows, columns):
            first, last = int(line[0]), int(line[-1])
            assert last - first + 1 == len(line) <= side
            if len(line) < side:  # as much of the square as lies in the view
                assert first == 0 or last == size - 1
            middle.append(last - side // 2 if first == 0 else first + side // 2)
        centers[tuple(middle)] += 1
    assert (centers > 0).all() and centers.std() < 2 * (n / size**2) ** 0.5  # as a Poisson's


def test_a_larger_view_is_cut_out_in_its_own_pixels():
    recipe = Recipe(cutout=4)
    params = fixed_params(1, (8, 8), cut_y=0.5, cut_x=0.999)
    (view,) = augment_images(torch.full((1, 8, 8, 1), 255, dtype=torch.uint8), recipe, params, size=16)
    expected = torch.ones(1, 16, 16)
    expected[:, 6:10, 13:] = 0
    assert torch.equal(view, expected)


def test_every_image_draws_its_own_parameters():
    images = smooth_images(1).repeat(16, 1, 1, 1)
    views = augment_images(images, SIMCLR, draw_params(SIMCLR, 16, (32, 32), make_generator()))
    assert (torch.cdist(views.flatten(1), views.flatten(1)) < 1e-3).sum() == 16


@pytest.mark.parametrize("color", ["exact", "fast"])
def test_rows_of_a_global_draw_give_rows_of_the_global_batch(color, monkeypatch):
    images, params = smooth_images(9), draw_params(SIMCLR, 9, (32, 32), make_generator())
    views = augment_images(images, SIMCLR, params, color=color)
    torch.testing.assert_close(
        augment_images(images[2::3], SIMCLR, params[2::3], color=color), views[2::3], atol=1e-6, rtol=0
    )
    monkeypatch.setattr("datamodules.augmentation.augment.CHUNK", 4 * images[0].numel())
    torch.testing.assert_close(augment_images(images, SIMCLR, params, color=color), views, atol=1e-6, rtol=0)


def test_only_the_generator_decides():
    torch.manual_seed(0)
    first, state = draw_params(SIMCLR, 8, (32, 32), make_generator(3)), torch.get_rng_state()
    assert torch.equal(first, draw_params(SIMCLR, 8, (32, 32), make_generator(3)))
    assert not torch.equal(first, draw_params(SIMCLR, 8, (32, 32), make_generator(4)))
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (8, len(COLUMNS)) and first.dtype == torch.float32


def test_recipes_take_the_same_count_of_numbers():
    a, b = make_generator(), make_generator()
    draw_params(SIMCLR, 8, (32, 32), a)
    draw_params(Recipe(), 8, (32, 32), b)
    assert torch.equal(a.get_state(), b.get_state())


def test_fast_is_near_exact():
    """0.017 on CIFAR-10, nearly all of it the hue; without hue they differ only where `exact` clamps on the way."""
    images, mild = (
        smooth_images(64),
        Recipe(scale=(0.2, 1.0), flip=0.5, jitter=1.0, brightness=0.2, contrast=0.2, blur=0.5),
    )
    for recipe, tolerance in ((mild, 0.002), (SIMCLR, 0.04)):
        params = draw_params(recipe, 64, (32, 32), make_generator())
        params[:, COLUMNS.index("solarize")] = 0  # jumps at its threshold
        exact, fast = (augment_images(images, recipe, params, color=color) for color in ("exact", "fast"))
        assert (exact - fast).abs().mean() < tolerance


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_channels_are_treated_equally(channels, color):
    """What is not color does to a stack of equal channels what it does to each."""
    recipe = Recipe(
        scale=(0.2, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, blur=0.5, solarize=0.2
    )
    params, one = draw_params(recipe, 6, (32, 32), make_generator()), smooth_images(channels=1)
    single = augment_images(one, recipe, params, 20, color)
    stack = augment_images(one.expand(-1, -1, -1, channels), recipe, params, 20, color)
    torch.testing.assert_close(stack, single.expand(-1, channels, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("color", ["exact", "fast"])
def test_one_graph_without_waiting_for_the_device(color):
    """fullgraph: nothing of the path a GPU takes depends on values."""
    images, recipe = smooth_images(), replace(SIMCLR, rotate=20, cutout=6)
    params = draw_params(recipe, 6, (32, 32), make_generator())
    compiled = torch.compile(augment_images, backend="eager", fullgraph=True)
    ours = compiled(images, recipe, params, 24, color, (0.5,) * 3, (0.2,) * 3)
    eager = augment_images(images, recipe, params, 24, color, (0.5,) * 3, (0.2,) * 3)
    torch.testing.assert_close(ours, eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong, channels, words", [
    ({"scale": (1.0, 0.2)}, 3, "scale = (1.0, 0.2) is a range"),
    ({"sigma": (2.0, 0.1)}, 3, "sigma = (2.0, 0.1) is a range"),
    ({"saturation": 0.4}, 1, "saturation = 0.4 needs 3 channels and the images have 1"),
    ({"hue": 0.1}, 5, "hue = 0.1 needs 3 channels and the images have 5"),
    ({"gray": 0.2}, 1, "gray = 0.2 needs 3 channels"),
])  # fmt: skip
def test_a_wrong_recipe_is_refused(wrong, channels, words):
    with refused_in_one_line(re.escape(words), ": "):
        check_recipe(Recipe(**wrong), 32, 32, channels)


def test_a_right_recipe_passes():
    check_recipe(SIMCLR, 32, 32, channels=3)
    check_recipe(Recipe(), 8, 8, channels=1)


@pytest.mark.parametrize("recipe", [SIMCLR, Recipe(rotate=30, cutout=4, flip=0.5), Recipe(crop=8, pad=2)])
def test_local_rows_are_those_of_the_draw_for_all(recipe):
    everywhere = draw_params(recipe, 24, (32, 32), make_generator())
    for local in (slice(6, 12), slice(1, 24, 4)):
        assert torch.equal(draw_params(recipe, 24, (32, 32), make_generator(), local), everywhere[local])
