"""Attention: rolled out as in the paper, to patches alone, of any transformer; others say that they have none."""

import numpy as np
import pytest
import torch
from torch import nn

from callbacks.figures.attention import Attention, describe_attention, measure_attention
from callbacks.measures.attention import attention_to_patches, roll_out_attention
from callbacks.plotting.examples import Examples
from callbacks.plotting.heat import MOST_HEADS, choose_scales, draw_heat, overlay_heat
from ssl_modules.networks.vit import ViT
from tests.conftest import CLASSES, write_random
from tests.figure_runs import build_tiny_data, find_case, fit_case, read_figure, write_numbers
from tests.test_vit import SMALL, small_timm

MAE = find_case("MAE")


def draw_attention(*shape: int) -> torch.Tensor:
    weights = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (2 * weights).softmax(-1)


# --- the measure


def test_rollout_is_the_papers_in_loops():
    weights = draw_attention(3, 2, 4, 5, 5)
    rolled_out = roll_out_attention(weights)
    for b in range(2):
        before = [[float(i == j) for j in range(5)] for i in range(5)]  # each token is itself
        for layer in range(3):
            mixed = [[0.0] * 5 for _ in range(5)]
            for i in range(5):
                for k in range(5):
                    mean = sum(float(weights[layer, b, head, i, k]) for head in range(4)) / 4
                    raw = 0.5 * mean + 0.5 * (i == k)
                    for j in range(5):
                        mixed[i][j] += raw * before[k][j]
            before = mixed
        np.testing.assert_allclose(rolled_out[b], before, rtol=1e-12)
    torch.testing.assert_close(rolled_out.sum(-1), torch.ones(2, 5, dtype=torch.float64))


def test_rollout_follows_a_path_through_layers():
    first, second = torch.eye(4), torch.eye(4)
    first[1] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # token 1 takes all from token 3,
    second[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])  # then token 0 all from token 1
    rolled_out = roll_out_attention(torch.stack([first, second])[:, None, None])
    assert rolled_out[0, 0].tolist() == [0.5, 0.25, 0, 0.25]  # a half of a half came from token 3
    assert roll_out_attention(torch.stack([second, first])[:, None, None])[0, 0].tolist() == [0.5, 0.5, 0, 0]


def test_rollout_is_float32_in_mixed_precision():
    weights = draw_attention(6, 1, 3, 17, 17).float()
    exact = roll_out_attention(weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(roll_out_attention(weights), exact)


def test_patches_are_the_last_tokens_and_the_class_token_is_the_first():
    weights = torch.arange(2 * 8 * 8.0).reshape(2, 8, 8)  # a class token, a register, and 2 x 3 patches
    by_token = attention_to_patches(weights, (2, 3), class_token=True)
    assert by_token[0].tolist() == [[2, 3, 4], [5, 6, 7]] and by_token.shape == (2, 2, 3)
    by_patches = attention_to_patches(weights, (2, 3), class_token=False)
    expected = torch.tensor([[sum(8.0 * i + j for i in range(2, 8)) / 6 for j in range(2, 8)]])
    torch.testing.assert_close(by_patches[0].reshape(1, 6), expected)


ENCODERS = {  # encoder: (tokens besides the patches, who asks)
    "ours": (lambda: ViT(**SMALL), 1, "class token"),
    "ours, mean": (lambda: ViT(**SMALL, pool="mean"), 1, "class token"),
    "timm": (small_timm, 1, "class token"),
    "timm, registers": (lambda: small_timm(reg_tokens=2), 3, "class token"),
    "timm, no class token": (lambda: small_timm(class_token=False, global_pool="avg"), 0, "patches"),
    "timm, registers alone": (
        lambda: small_timm(class_token=False, global_pool="avg", reg_tokens=2),
        2,
        "patches",
    ),
}


@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_each_transformer_says_who_asks(name, size):
    build, others, query = ENCODERS[name]
    torch.manual_seed(0)
    encoder, view, grid = build().eval(), torch.rand(2, 3, *size), (size[0] // 4, size[1] // 4)
    heads, rollout, facts = measure_attention(encoder, view)
    tokens = others + grid[0] * grid[1]
    assert facts == {"layers": 3, "heads": 3, "tokens": tokens, "query": query}
    weights = encoder.attention(view)
    for values, of in ((heads, weights[-1]), (rollout, roll_out_attention(weights))):
        rows = of[..., 0, others:] if query == "class token" else of[..., others:, others:].mean(-2)
        torch.testing.assert_close(values, rows.unflatten(-1, grid))


def test_the_words_say_who_asks_and_what_is_left_out():
    facts = {"layers": 12, "heads": 16, "tokens": 197, "query": "patches"}
    title, under = describe_attention(facts, "val", pooled=True)
    assert title == "Where the patches look, on average" and under.startswith("Validation images.")
    assert "among 197 tokens" in under and "12 of 16 heads" in under and "Features are" not in under
    title, under = describe_attention(facts | {"query": "class token", "heads": 3}, "test", pooled=True)
    assert title == "Where the class token looks" and under.startswith("Test images.")
    assert "Features are the mean of the patches' tokens" in under and "heads are shown" not in under


# --- the picture


def test_heat_lies_where_it_is_and_the_scale_ends_at_its_limits():
    image = np.full((8, 16, 1), 128, np.uint8)
    heat = np.zeros((2, 4), np.float32)
    heat[1, 3] = 4
    picture = overlay_heat(image, heat, 0.0, 4.0)
    assert picture.shape == (80, 160, 3) and picture.min() >= 0 and picture.max() <= 1
    row, column = np.unravel_index(picture.sum(2).argmax(), (80, 160))
    assert (row // 40, column // 40) == (1, 3)
    full = overlay_heat(image, np.full_like(heat, 9), 0.0, 4.0)
    np.testing.assert_allclose(full, np.broadcast_to(picture[row, column], full.shape))


def test_scales_have_even_shares_inside_and_cut_off_a_hundredth():
    even = np.ones((2, 3, 4, 4))
    assert choose_scales(even, even[:, 0]) == ((0.0, 2.0), (0.9, 1.1))
    spread = np.linspace(0, 10, 1001)
    (low, high), (rolled_low, rolled_high) = choose_scales(spread, spread / 4)
    assert (low, high) == (0.0, pytest.approx(9.9))
    assert (rolled_low, rolled_high) == (pytest.approx(0.025), pytest.approx(2.475))


@pytest.mark.parametrize("count, heads, shape", [(1, 1, (16, 16, 3)), (2, MOST_HEADS + 4, (8, 24, 1))])
def test_any_number_of_images_and_heads_is_drawn(count, heads, shape):
    images = np.full((count, *shape), 128, np.uint8)
    examples = Examples(torch.zeros(count), torch.arange(count) - 1, torch.arange(count), images)
    rng = np.random.default_rng(0)
    figure = draw_heat(examples, rng.random((count, heads, 2, 3)), rng.random((count, 2, 3)), CLASSES)
    shown = min(heads, MOST_HEADS)
    assert (
        len(figure.axes) == count * (1 + shown + 2) + 2
    )  # the image, heads, their mean, rolled out; two scales
    titles = [axis.get_title() for axis in figure.axes[: 1 + shown + 2]]
    assert titles == ["image", *(f"head {k + 1}" for k in range(shown)), "mean of heads", "rolled out"]
    names = [axis.get_ylabel() for axis in figure.axes[:: 1 + shown + 2][:count]]
    assert names == ["?", "circle"][:count]
    draw_heat(examples, np.ones((count, heads, 2, 3)), np.ones((count, 2, 3)), None)  # without any contrast


# --- the callback


def test_a_fit_leaves_the_attention_of_its_encoder(data_dir, tmp_path):
    trainer = fit_case(MAE, data_dir, tmp_path, Attention(images=3))
    facts, arrays = read_figure(tmp_path, "attention")
    encoder, data = trainer.lightning_module.encoder.eval(), trainer.datamodule
    view = data.read_batch("val", arrays["index"], torch.device("cpu")).views[0]
    with torch.no_grad():
        weights = encoder.attention(view)
    np.testing.assert_allclose(arrays["heads"].reshape(3, 2, 16), weights[-1, :, :, 0, 1:], rtol=1e-5)
    rollout = roll_out_attention(weights)[:, 0, 1:]
    np.testing.assert_allclose(arrays["rollout"].reshape(3, 16), rollout, rtol=1e-5)
    assert facts == {"split": "val", "layers": 2, "heads": 2, "tokens": 17, "query": "class token"}
    images, labels, _ = data.datasets["val"].__getitems__(arrays["index"])
    assert np.array_equal(arrays["original"], images) and arrays["labels"].tolist() == labels.tolist()
    assert len({*arrays["labels"]}) == 3


def test_fewer_images_than_asked_of_one_channel_without_classes(tmp_path):
    write_random(tmp_path / "tiny", train=20, test=8, size=16, channels=1)
    for split in ("train", "test"):
        (tmp_path / "tiny" / f"{split}_labels.npy").unlink()
    case = MAE._replace(
        encoder=lambda norm: ViT(16, patch_size=8, width=8, depth=1, heads=1, in_channels=1, pool="mean")
    )
    data = build_tiny_data(case, tmp_path, val_size=2)
    fit_case(case, tmp_path, tmp_path, Attention(images=6), data=data, limit_val_batches=1)
    _, arrays = read_figure(tmp_path, "attention")
    assert arrays["heads"].shape == (2, 1, 2, 2) and arrays["original"].shape == (2, 16, 16, 1)


def test_numbers_as_labels_have_a_picture(tmp_path):
    fit_case(MAE, write_numbers(tmp_path), tmp_path, Attention(images=2))
    assert read_figure(tmp_path, "attention")[1]["labels"].shape == (2, 2)


@pytest.mark.parametrize("method", ["SimCLR", "Autoencoder", "NextCharacter"])
def test_one_line_says_that_an_encoder_has_no_attention(method, data_dir, tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        callback = Attention(every_n_epochs=1)
        trainer = fit_case(find_case(method), data_dir, tmp_path, callback, max_epochs=2)
    lines = [record.getMessage() for record in caplog.records if "Attention" in record.getMessage()]
    name = type(trainer.lightning_module.encoder).__name__
    assert lines == [f"Attention: no picture, since {name} has no attention"]
    assert not (tmp_path / "figures").exists()


class NaNAttention(ViT):
    def attention(self, view):
        return float("nan") * super().attention(view)


class NoGrid(nn.Module):
    """Has attention, and says not where its patches are."""

    dim, pooled, attention = 4, False, None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, view):
        return self.layer(view.mean((2, 3)))


@pytest.mark.parametrize(
    "method, encoder, reason",
    [
        (
            "MAE",
            lambda norm: NaNAttention(16, width=8, depth=1, heads=1),
            "the attention of NaNAttention is not finite",
        ),
        ("SimCLR", lambda norm: NoGrid(), "NoGrid has no grid of patches"),
    ],
)
def test_one_line_says_what_else_is_missing(method, encoder, reason, data_dir, tmp_path):
    fit_case(find_case(method)._replace(encoder=encoder), data_dir, tmp_path, callback := Attention())
    assert callback.skip_reason == reason and not (tmp_path / "figures").exists()
