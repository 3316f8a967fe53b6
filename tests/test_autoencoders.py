import math

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.batch import Batch, BatchKey
from datamodules.arrays import Arrays
from ssl_modules.autoencoder import Autoencoder
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.residual_autoencoder import ResidualEncoder
from ssl_modules.networks.resnet import Block, ResNet
from tests.errors import refused_in_one_line
from tests.methods import count_parameters, small_residual_encoder, train


def build_small(residual=True, **arguments) -> Autoencoder:
    """On 16x16 images, always with the same weights; with group norm, so that training mode is evaluation's."""
    torch.manual_seed(0)
    encoder = small_residual_encoder("group") if residual else ConvEncoder(16, widths=(8, 16))
    return Autoencoder(encoder=encoder, optimizer=torch.optim.AdamW, **arguments)


def make_images(n=12, low=0.0, high=1.0, size=16):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    return low + (high - low) * pixels


def make_batch(view, key=7):
    rows = torch.arange(len(view))
    return Batch([view], rows % 4, rows, BatchKey.single(key, len(view)))


def count_turns(targets, upright) -> list[int]:
    """By how many quarter turns numpy gets from each image to its target; exactly one must fit."""
    turns = []
    for target, image in zip(targets.numpy(), upright.numpy(), strict=True):
        fits = [np.array_equal(target, np.rot90(image, k, (1, 2))) for k in range(4)]
        assert sum(fits) == 1
        turns.append(fits.index(True))
    return turns


def errors_in_loops(reconstructions, targets, loss) -> list[float]:
    """One error an image, pixel by pixel in float64."""
    errors = []
    for made, wanted in zip(reconstructions.tolist(), targets.tolist(), strict=True):
        terms = []
        for plane, wanted_plane in zip(made, wanted, strict=True):
            for row, wanted_row in zip(plane, wanted_plane, strict=True):
                for p, x in zip(row, wanted_row, strict=True):
                    bce = x * math.log(p) + (1 - x) * math.log(1 - p) if loss == "bce" else 0
                    terms.append(-bce if loss == "bce" else (p - x) ** 2)
        errors.append(sum(terms) / len(terms))
    return errors


def cross_entropy_in_loops(scores, labels) -> float:
    total = 0.0
    for row, label in zip(scores.tolist(), labels, strict=True):
        total += math.log(sum(math.exp(s) for s in row)) - row[label]
    return total / len(labels)


# --- networks


def test_encoder_and_decoder_have_the_parameters_of_the_course():
    encoder = ConvEncoder()
    assert count_parameters(encoder) == 42_156 and count_parameters(encoder.decoder()) == 42_135
    assert encoder.dim == 384 and encoder.maps(torch.zeros(1, 3, 64, 64)).shape == (1, 24, 4, 4)


def test_convolutions_are_4x4_with_stride_2_and_relu_between():
    encoder = ConvEncoder()
    for layers, kind in (
        (list(encoder.layers), nn.Conv2d),
        (list(encoder.decoder())[1:], nn.ConvTranspose2d),
    ):
        for layer in layers[::2]:
            assert type(layer) is kind
            assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
        assert all(isinstance(layer, nn.ReLU) for layer in layers[1::2])
        assert len(layers) == (8 if kind is nn.Conv2d else 7)


SHAPES = [
    (ConvEncoder, {}, 64, 3, 384),
    (ConvEncoder, {"size": 32}, 32, 3, 96),
    (ConvEncoder, {"size": 32, "widths": (32, 64, 128, 32)}, 32, 3, 128),
    (ConvEncoder, {"size": 24, "widths": (5, 7), "in_channels": 1}, 24, 1, 7 * 6 * 6),
    (ConvEncoder, {"size": 16, "widths": (4, 4, 4, 4)}, 16, 3, 4),
    (ResidualEncoder, {}, 32, 3, 128),
    (ResidualEncoder, {"size": 24, "widths": (8, 16), "blocks": 2, "code": 10, "in_channels": 1}, 24, 1, 10),
    (ResidualEncoder, {"size": 8, "widths": (8, 8, 8), "blocks": 0, "code": 300, "norm": "group"}, 8, 3, 300),
]


@pytest.mark.parametrize("make, arguments, size, channels, dim", SHAPES, ids=str)
def test_the_decoder_gives_back_the_shape_of_the_images(make, arguments, size, channels, dim):
    encoder = make(**arguments)
    view = torch.rand(2, channels, size, size)
    features = encoder(view)
    assert encoder.dim == dim and features.shape == (2, dim)
    assert encoder.decoder()(features).shape == view.shape


def test_plain_features_are_the_flattened_maps():
    encoder, view = ConvEncoder(16, widths=(8, 16)), make_images()
    maps, features = encoder.maps(view), encoder(view)
    for c, y, x in np.ndindex(16, 4, 4):
        assert torch.equal(features[:, (c * 4 + y) * 4 + x], maps[:, c, y, x])


@pytest.mark.parametrize("make", [ConvEncoder, ResidualEncoder])
def test_the_decoder_ends_linear(make):
    decoder = make(16, widths=(8, 16)).decoder()
    assert isinstance(decoder[-1], nn.ConvTranspose2d | nn.PixelShuffle)
    out = decoder(10 * torch.randn(64, decoder[0].in_features if make is ResidualEncoder else 256))
    assert out.min() < -0.01 and out.max() > 0.01


def test_the_residual_decoder_mirrors_the_encoder():
    encoder = ResidualEncoder(widths=(8, 16, 24), blocks=2)
    down = [m for m in encoder.stages if isinstance(m, nn.Conv2d)]
    decoder = encoder.decoder()
    up = [m for m in decoder if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in down] == [(3, 8), (8, 16), (16, 24)]
    assert all(m.kernel_size == m.stride == (2, 2) and m.padding == (0, 0) for m in down)
    assert [(m.in_channels, m.out_channels) for m in up] == [(24, 4 * 16), (16, 4 * 8), (8, 4 * 3)]
    for part in (encoder, decoder):
        assert sum(isinstance(m, Block) for m in part.modules()) == 6


def test_pixel_shuffle_lays_four_channels_out_as_2x2_pixels():
    (first, *_) = (m for m in ResidualEncoder(widths=(8, 16)).decoder() if isinstance(m, nn.PixelShuffle))
    low = torch.arange(2 * 12 * 3 * 5.0).view(2, 12, 3, 5)
    high = first(low)
    assert high.shape == (2, 3, 6, 10)
    for b, c, y, x in np.ndindex(*high.shape):
        assert high[b, c, y, x] == low[b, 4 * c + 2 * (y % 2) + x % 2, y // 2, x // 2]


@pytest.mark.parametrize("make", [ConvEncoder, ResidualEncoder])
@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"size": 60, "widths": (8, 8, 8)}, "multiple of 8"),
        ({"size": 4, "widths": (8, 8, 8)}, "multiple of 8"),
        ({"widths": ()}, "widths"),
    ],
    ids=str,
)
def test_sizes_and_widths_of_no_network_are_refused_in_one_line(make, arguments, named):
    with refused_in_one_line(named):
        make(**arguments)


def test_widths_that_make_no_groups_are_refused_in_one_line():
    with pytest.raises(MisconfigurationException, match="multiples of 8"):
        ResidualEncoder(widths=(8, 28), norm="group")


@pytest.mark.parametrize("make", [ConvEncoder, ResidualEncoder])
@pytest.mark.parametrize("shape", [(32, 32), (16, 8)])
def test_images_of_another_size_are_refused_in_one_line(make, shape):
    with refused_in_one_line(f"16x16.*{shape[0]}x{shape[1]}"):
        make(16, widths=(8,))(torch.zeros(2, 3, *shape))


# --- turns


@pytest.mark.parametrize("channels_last", [False, True])
def test_each_training_image_is_turned_as_numpy_turns_it_to_the_bit(channels_last):
    method, view = build_small(beta=10.0), make_images()
    images = view.to(memory_format=torch.channels_last) if channels_last else view
    targets = method.training_step(make_batch(images), 0)["targets"]
    assert set(count_turns(targets, view)) == {0, 1, 2, 3}


def test_each_training_image_has_its_own_turn_and_the_key_decides():
    method, view = build_small(residual=False, beta=10.0), make_images(200)

    def drawn(key):
        return count_turns(method.training_step(make_batch(view, key), 0)["targets"], view)

    state = torch.get_rng_state()
    first = drawn(7)
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn(7) == first and drawn(8) != first
    assert all(30 < first.count(k) < 70 for k in range(4))


def test_at_evaluation_and_without_beta_nothing_is_turned():
    view = make_images(40)
    turning, plain = build_small(beta=10.0), build_small(beta=0.0)
    plain_out = plain.training_step(make_batch(view), 0)
    assert torch.equal(plain_out["targets"], view)
    turning.eval(), plain.eval()
    for step in ("validation_step", "test_step"):
        out = getattr(turning, step)(make_batch(view), 0)
        assert torch.equal(out["targets"], view) and torch.equal(out["loss"], out["losses"].mean())
        assert torch.equal(out["loss"], getattr(plain, step)(make_batch(view), 0)["loss"])


def test_features_of_a_training_step_are_of_turned_images():
    method = build_small(beta=10.0)
    out = method.training_step(make_batch(make_images()), 0)
    torch.testing.assert_close(out["features"], method.encode(out["targets"]).detach())


# --- the loss


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    "loss, output, low",
    [("mse", "sigmoid", 0), ("bce", "sigmoid", 0), ("mse", "tanh", -1), ("mse", "linear", -1)],
)
def test_the_loss_is_the_mean_over_pixels_and_images_in_loops(residual, loss, output, low):
    method, view = build_small(residual, loss=loss, output=output), make_images(5, low)
    out = method.training_step(make_batch(view), 0)
    expected = errors_in_loops(out["reconstructions"], view, loss)
    assert out["losses"].tolist() == pytest.approx(expected, rel=1e-5)
    assert out["loss"].item() == pytest.approx(sum(expected) / 5, rel=1e-5)


@pytest.mark.parametrize("loss, beta", [("mse", 10.0), ("mse", 0.5), ("bce", 10.0)])
def test_with_beta_the_cross_entropy_of_the_turns_is_added_in_loops(loss, beta):
    method, view = build_small(loss=loss, beta=beta), make_images()
    out = method.training_step(make_batch(view), 0)
    turns = count_turns(out["targets"], view)
    assert len(set(turns)) > 1
    scores = method.turn_head(out["features"]).detach()
    reconstruction = np.mean(errors_in_loops(out["reconstructions"], out["targets"], loss))
    assert out["losses"].mean().item() == pytest.approx(reconstruction, rel=1e-5)
    expected = reconstruction + beta * cross_entropy_in_loops(scores, turns)
    assert out["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert out["metrics"]["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-5)
    right = np.mean([row.index(max(row)) == k for row, k in zip(scores.tolist(), turns, strict=True)])
    assert out["metrics"]["rotation_top1"].item() == pytest.approx(right)


@pytest.mark.parametrize(
    "loss, output, pixel, expected",
    [
        ("mse", "sigmoid", 0.5, 0.0),  # a decoder that says 0 draws 1/2
        ("mse", "sigmoid", 1.0, 0.25),
        ("bce", "sigmoid", 0.5, math.log(2)),
        ("bce", "sigmoid", 1.0, math.log(2)),
        ("mse", "tanh", 1.0, 1.0),
        ("mse", "linear", -1.0, 1.0),
    ],
)
def test_known_values_for_a_decoder_that_says_nothing(loss, output, pixel, expected):
    method = build_small(residual=False, loss=loss, output=output, beta=10.0)
    for parameter in [*method.decoder.parameters(), *method.turn_head.parameters()]:
        nn.init.zeros_(parameter)
    view = torch.full((4, 3, 16, 16), pixel)
    assert method.training_step(make_batch(view), 0)["loss"].item() == pytest.approx(
        expected + 10 * math.log(4)
    )
    assert method.eval().validation_step(make_batch(view), 0)["loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_bce_of_a_decoder_that_is_very_sure_is_finite(size):
    method = build_small(residual=False, loss="bce")
    nn.init.constant_(method.decoder[-1].bias, size)
    loss = method.training_step(make_batch(make_images().round()), 0)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("output, low, high", [("sigmoid", 0, 1), ("tanh", -1, 1)])
def test_reconstructions_are_in_the_range_that_images_must_be_in(output, low, high):
    method = build_small(residual=False, output=output)
    nn.init.normal_(method.decoder[-1].bias, std=100)
    made = method.training_step(make_batch(make_images()), 0)["reconstructions"]
    assert method.value_range == (low, high) and made.min() >= low and made.max() <= high
    assert build_small(output="linear").value_range is None


@pytest.mark.parametrize("loss", ["mse", "bce"])
@pytest.mark.parametrize("residual", [False, True])
def test_in_bf16_the_error_is_that_of_float32_reconstructions(residual, loss):
    method, view = build_small(residual, loss=loss, beta=10.0), make_images()
    exact = method.training_step(make_batch(view), 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = method.training_step(make_batch(view), 0)
    half["loss"].backward()
    assert half["loss"].dtype == half["reconstructions"].dtype == torch.float32
    expected = errors_in_loops(half["reconstructions"], half["targets"], loss)
    assert half["losses"].tolist() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(half["losses"], exact["losses"], atol=0.01, rtol=0.02)
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in method.parameters())


def test_the_loss_of_turns_never_sees_labels():
    view = make_images()
    (_, labels, index, key), method = make_batch(view), build_small(beta=10.0)
    batches = [Batch([view], others, index, key) for others in (labels, -1 - labels)]
    losses = [method.training_step(batch, 0)["loss"] for batch in batches]
    assert torch.equal(*losses)


def test_it_learns_to_draw_eight_images_and_to_name_their_turns():
    method, view = build_small(beta=1.0), make_images(8)
    view[:, :, :8] *= 0.2  # dark above
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    errors, right = [], []
    for key in range(100):
        out = method.training_step(make_batch(view, key), 0)
        turns = torch.tensor(count_turns(out["targets"], view))
        right.append((method.turn_head(out["features"]).argmax(1) == turns).float().mean())
        errors.append(out["losses"].mean())
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert errors[-1] < 0.6 * errors[0] and sum(right[-5:]) == 5


# --- in a Trainer


def tiny_data(data_dir, mean, std):
    return Arrays("tiny", data_dir=data_dir, batch_size=29, mean=[mean], std=[std])


def test_what_is_logged(data_dir, tmp_path):
    logged = {}
    for beta in (0.0, 10.0):
        trainer = train(build_small(beta=beta), tiny_data(data_dir, 0.0, 1.0), tmp_path)
        logged[beta] = {k: float(v) for k, v in trainer.callback_metrics.items()}
    both = {"train/loss", "val/loss"}
    assert logged[0.0].keys() == both
    more = {"train/reconstruction", "train/rotation_top1", "val/reconstruction"}
    assert logged[10.0].keys() == both | more
    assert logged[10.0]["val/loss"] == logged[10.0]["val/reconstruction"] < 0.5
    assert logged[10.0]["train/loss"] > logged[10.0]["train/reconstruction"] + 5
    name, mode = Autoencoder.monitor
    assert name in both and mode == "min"


@pytest.mark.parametrize(
    "output, mean, std, message",
    [
        ("sigmoid", 0.5, 0.5, r"in \[0, 1\].*mean to \[0\] and std to \[1\]"),
        ("tanh", 0.5, 0.25, r"in \[-1, 1\].*mean to \[0.5\] and std to \[0.5\]"),
    ],
)
def test_images_that_the_output_cannot_reach_are_refused_in_one_line(
    output, mean, std, message, data_dir, tmp_path
):
    with refused_in_one_line(message):
        train(build_small(output=output), tiny_data(data_dir, mean, std), tmp_path)


def test_a_linear_output_takes_images_of_any_normalization(data_dir, tmp_path):
    train(build_small(output="linear"), tiny_data(data_dir, 0.5, 0.1), tmp_path, limit_train_batches=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"encoder": ResNet(widths=[8], blocks=[1])}, r"ResNet has no decoder\(\)"),
        ({"loss": "bce", "output": "tanh"}, "bce needs output sigmoid, not tanh"),
        ({"loss": "bce", "output": "linear"}, "bce needs output sigmoid, not linear"),
    ],
    ids=["no decoder", "bce tanh", "bce linear"],
)
def test_what_makes_no_autoencoder_is_refused_in_one_line(arguments, message):
    with refused_in_one_line(message):
        Autoencoder(**({"encoder": ConvEncoder(16, widths=(8,)), "optimizer": torch.optim.AdamW} | arguments))
