"""Vision transformers, ours and timm's: tokens, masks, attention and positions."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from callbacks.measures.class_activation import maps_and_gradients
from common.batch import BatchKey
from ssl_modules.networks.patches import cut_patches, draw_kept_patches, join_patches, sine_positions
from ssl_modules.networks.timm_model import Timm
from ssl_modules.networks.transformer import Attention
from ssl_modules.networks.vit import ViT
from tests.errors import refused_in_one_line

SMALL = {"img_size": 16, "patch_size": 4, "width": 24, "depth": 3, "heads": 3}


def small_timm(**options) -> Timm:
    sizes = {"patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3}
    return Timm("vit_tiny_patch16_224", img_size=16, options=sizes | options)


ENCODERS = {
    "ours": lambda: ViT(**SMALL),
    "ours, mean": lambda: ViT(**SMALL, pool="mean"),
    "timm": small_timm,
    "timm, mean": lambda: small_timm(global_pool="avg", fc_norm=False),
    "timm, mean, norm after it": lambda: small_timm(global_pool="avg"),
    "timm, registers": lambda: small_timm(reg_tokens=2),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    encoder = ENCODERS[request.param]().eval()
    for name, parameter in encoder.named_parameters():
        if parameter.ndim < 2 or "token" in name:  # else norms and biases would show little
            nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.2)
    return encoder


@pytest.fixture
def view():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def positions_in_loops(dim, height, width):
    """He et al. 2021, as its code has it: columns first, then rows; sines, then cosines."""
    rows = []
    for y in range(height):
        for x in range(width):
            row = []
            for place in (x, y):
                angles = [place / 10_000 ** (k / (dim // 4)) for k in range(dim // 4)]
                row += [torch.tensor(angle, dtype=torch.float64).sin() for angle in angles]
                row += [torch.tensor(angle, dtype=torch.float64).cos() for angle in angles]
            rows.append(torch.stack(row))
    return torch.stack(rows).float()


# --- against independent implementations


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_it_computes_what_timms_does(pool, view):
    torch.manual_seed(0)
    ours = ViT(**SMALL, pool=pool)
    theirs = VisionTransformer(
        img_size=16,
        patch_size=4,
        embed_dim=24,
        depth=3,
        num_heads=3,
        num_classes=0,
        global_pool={"token": "token", "mean": "avg"}[pool],
        fc_norm=False,
    ).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.2)
    names = {"patch_embed.": "patch_embed.proj.", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    weights = {}
    for name, weight in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        weights[name] = weight
    weights["pos_embed"] = torch.cat([torch.zeros(1, 24), positions_in_loops(24, 4, 4)])[None]
    theirs.load_state_dict(weights, strict=True)
    features, tokens = ours.encode_tokens(view)
    torch.testing.assert_close(features, theirs(view), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens, theirs.forward_features(view)[:, 1:], atol=1e-5, rtol=1e-5)
    assert torch.equal(ours(view), features)


def test_positions_are_those_of_the_paper():
    torch.testing.assert_close(sine_positions(24, (3, 5)), positions_in_loops(24, 3, 5), atol=1e-5, rtol=0)


def test_positions_of_another_grid_span_the_same_extent():
    full = sine_positions(8, (4, 4))
    fine = sine_positions(8, (8, 8), (4, 4)).view(8, 8, 8)
    columns = (torch.arange(8) + 0.5) / 2 - 0.5
    torch.testing.assert_close(fine[0, :, 0], columns.sin())
    torch.testing.assert_close(fine[:, 0, 4], columns.sin())
    assert torch.equal(sine_positions(8, (4, 4), (4, 4)), full)
    straight = torch.arange(4.0)[
        None, None
    ]  # what interpolation makes of places, where it need not extrapolate
    enlarged = F.interpolate(straight, size=8, mode="linear")[0, 0]
    torch.testing.assert_close(enlarged[1:-1], columns[1:-1])


def test_attention_is_the_softmax_of_scaled_products():
    torch.manual_seed(0)
    layer, x = Attention(12, 3), torch.randn(2, 5, 12)
    qkv = layer.qkv(x).view(2, 5, 3, 3, 4)
    mixed = torch.zeros(2, 5, 12)
    for b in range(2):
        for head in range(3):
            for i in range(5):
                products = torch.stack([qkv[b, i, 0, head] @ qkv[b, j, 1, head] / 2 for j in range(5)])
                weights = products.exp() / products.exp().sum()
                torch.testing.assert_close(layer.weights(x)[b, head, i], weights)
                mixed[b, i, 4 * head : 4 * head + 4] = sum(weights[j] * qkv[b, j, 2, head] for j in range(5))
    torch.testing.assert_close(layer(x), layer.proj(mixed))


# --- what all of them promise


def test_shapes(encoder, view):
    features, tokens = encoder.encode_tokens(view)
    assert features.shape == (2, encoder.dim) == (2, 24) and tokens.shape == (2, 16, 24)
    assert encoder.grid(view) == (4, 4) and encoder.patch_size == 4
    assert torch.equal(encoder.maps(view).flatten(2).mT, tokens)
    torch.testing.assert_close(features, encoder(view))


def test_pooled_means_that_features_are_the_mean_of_maps(encoder, view):
    mean = encoder.maps(view).mean((2, 3))
    assert encoder.pooled == torch.allclose(encoder(view), mean, atol=1e-5)


def test_keeping_all_patches_is_plain_and_order_moves_rows(encoder, view):
    features, tokens = encoder.encode_tokens(view)
    order = torch.stack([torch.arange(16), torch.randperm(16)])
    moved_features, moved = encoder.encode_tokens(view, keep=order)
    torch.testing.assert_close(moved_features, features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        moved, tokens.gather(1, order[..., None].expand_as(tokens)), atol=1e-5, rtol=1e-5
    )


def test_hidden_patches_do_not_enter(encoder, view):
    keep = torch.tensor([[0, 5, 7], [15, 2, 3]])
    features, tokens = encoder.encode_tokens(view, keep=keep)
    assert tokens.shape == (2, 3, 24)
    patches = cut_patches(view, 4)
    others = torch.full_like(patches, 9.0)
    others.scatter_(
        1, keep[..., None].expand(-1, -1, 48), patches.gather(1, keep[..., None].expand(-1, -1, 48))
    )
    changed = join_patches(others, 4, (4, 4))
    assert not torch.allclose(encoder(changed), encoder(view), atol=1e-3)
    for a, b in zip(encoder.encode_tokens(changed, keep=keep), (features, tokens), strict=True):
        assert torch.equal(a, b)


def test_masked_patches_are_their_positions_alone(encoder, view):
    mask, token = torch.rand(2, 16) < 0.5, torch.randn(24)
    patches = cut_patches(view, 4)
    changed = join_patches(torch.where(mask[..., None], 9.0, patches), 4, (4, 4))
    masked = encoder.encode_tokens(view, mask=mask, mask_token=token)
    for a, b in zip(encoder.encode_tokens(changed, mask=mask, mask_token=token), masked, strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(masked[0], encoder(view), atol=1e-3)
    for a, b in zip(
        encoder.encode_tokens(view, mask=torch.zeros_like(mask), mask_token=token),
        encoder.encode_tokens(view),
        strict=True,
    ):
        assert torch.equal(a, b)
    everywhere = encoder.encode_tokens(view, mask=torch.ones_like(mask), mask_token=token)[1]
    assert torch.equal(everywhere[0], everywhere[1]) and everywhere[0].std(0).max() > 1e-3  # positions stay
    with pytest.raises(ValueError, match="mask_token"):
        encoder.encode_tokens(view, mask=mask)


def test_the_mask_token_learns(encoder, view):
    token, mask = nn.Parameter(torch.zeros(24)), torch.arange(16).expand(2, 16) < 8
    encoder.encode_tokens(view, mask=mask, mask_token=token)[1].pow(3).sum().backward()
    assert token.grad.abs().sum() > 0


def test_attention_gives_each_token_a_share_of_all(encoder, view):
    before = encoder(view)
    weights = encoder.attention(view)
    tokens = weights.shape[-1]
    assert weights.shape == (3, 2, 3, tokens, tokens) and tokens in (17, 19)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 3, tokens))
    assert torch.equal(encoder(view), before)


@pytest.mark.parametrize("height, width", [(8, 8), (32, 32), (16, 24)])
def test_views_of_other_sizes_have_other_grids(encoder, height, width):
    view = torch.rand(2, 3, height, width)
    features, tokens = encoder.encode_tokens(view)
    assert features.shape == (2, 24) and encoder.maps(view).shape == (2, 24, height // 4, width // 4)
    assert encoder.grid(view) == (height // 4, width // 4) and tokens.isfinite().all()


def test_it_works_in_bf16(encoder, view):
    exact = encoder(view)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, tokens = encoder.encode_tokens(view, keep=torch.arange(16).expand(2, 16))
        masked = encoder.encode_tokens(view, mask=torch.ones(2, 16) > 0, mask_token=torch.zeros(24))[0]
    torch.testing.assert_close(features.float(), exact, atol=0.1, rtol=0.1)
    assert tokens.isfinite().all() and masked.isfinite().all()
    whole = copy.deepcopy(encoder).bfloat16()
    assert whole(torch.rand(2, 3, 8, 8).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("what", [0, 1])
def test_features_alone_and_tokens_alone_reach_every_parameter(encoder, view, what):
    encoder.encode_tokens(view)[what].pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        if what and "fc_norm" in name:
            continue  # timm's norm of pooled features
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_copies_and_pickles(encoder, view):
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(other(view), encoder(view)) and torch.equal(other.maps(view), encoder.maps(view))


def test_what_does_not_decay_is_named(encoder):
    names = encoder.no_weight_decay()
    parameters = dict(encoder.named_parameters())
    assert any(name.endswith("cls_token") for name in names & parameters.keys())
    assert all(parameters[name].ndim == 3 for name in names & parameters.keys())


def test_layers_are_the_stem_then_one_block_each(encoder):
    layers = group_parameters(encoder, encoder.group_matcher(), reverse=True)
    assert layers.keys() == dict(encoder.named_parameters()).keys()
    for name, layer in layers.items():
        parts = name.removeprefix("model.").split(".")
        if parts[0] == "blocks":
            assert layer == int(parts[1]) + 1
        elif parts[0] in ("cls_token", "reg_token", "pos_embed", "patch_embed"):
            assert layer == 0
        else:
            assert layer >= 3, name


def test_any_of_them_has_gradients_at_patches(encoder, view):
    maps, gradients, _ = maps_and_gradients(encoder, view, torch.randn(5, 24), torch.zeros(2, 1).long())
    assert maps.shape == (2, 24, 4, 4) and gradients.shape == (2, 1, 24, 4, 4)
    assert gradients.flatten(3).any(3).all() if encoder.pooled else gradients.any()


# --- ours


def test_channels_and_state():
    encoder = ViT(**SMALL, in_channels=5)
    assert encoder(torch.rand(2, 5, 16, 16)).shape == (2, 24)
    assert "positions" not in encoder.state_dict()
    assert encoder.state_dict().keys() == dict(encoder.named_parameters()).keys()


def test_numbers_of_parameters_by_formula():
    width, hidden, block = 192, 768, 0
    block = (
        3 * width * width
        + 3 * width
        + width * width
        + width
        + 2 * width * hidden
        + hidden
        + width
        + 4 * width
    )
    total = 6 * block + 3 * 16 * width + width + width + 2 * width
    assert sum(p.numel() for p in ViT().parameters()) == total


@pytest.mark.parametrize(
    "options",
    [
        {"width": 25},
        {"width": 30, "heads": 3},
        {"heads": 5},
        {"img_size": 18},
    ],
)
def test_sizes_of_no_transformer_are_refused_in_one_line(options):
    with pytest.raises(MisconfigurationException, match="ViT") as error:
        ViT(**SMALL | options)
    assert "\n" not in str(error.value)


def test_a_view_that_patches_do_not_fill_is_refused_in_one_line():
    with pytest.raises(MisconfigurationException, match=r"18x16.*patch_size") as error:
        ViT(**SMALL)(torch.rand(1, 3, 18, 16))
    assert "\n" not in str(error.value)


# --- patches


def test_patches_are_cut_in_reading_order_and_joined_again():
    images = torch.rand(2, 3, 8, 12)
    patches = cut_patches(images, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(patches[1, 4].view(4, 4, 3), images[1, :, 4:8, 4:8].permute(1, 2, 0))
    assert torch.equal(join_patches(patches, 4, (2, 3)), images)


def test_kept_patches_are_distinct_sorted_and_dealt_out_to_processes():
    key = BatchKey.single(7, 6)
    keep = draw_kept_patches(key, 16, 0.75)
    assert keep.shape == (6, 4) and keep.dtype == torch.int64 and keep.min() >= 0 and keep.max() < 16
    assert (keep.diff(dim=1) > 0).all() and len({tuple(row) for row in keep.tolist()}) > 1
    halves = [draw_kept_patches(BatchKey(7, 6, rows), 16, 0.75) for rows in (slice(0, 6, 2), slice(1, 6, 2))]
    assert torch.equal(halves[0], keep[::2]) and torch.equal(halves[1], keep[1::2])
    assert not torch.equal(draw_kept_patches(key, 16, 0.75, name="other"), keep)
    assert draw_kept_patches(key, 16, 0.99).shape == (6, 1) and draw_kept_patches(key, 16, 0.01).shape == (
        6,
        15,
    )


def test_to_hide_the_only_patch_is_refused_in_one_line():
    with refused_in_one_line("0.5 of 1 patches", "two are needed"):
        draw_kept_patches(BatchKey.single(7, 6), 1, 0.5)


def test_every_patch_is_kept_as_often():
    keep = draw_kept_patches(BatchKey.single(1, 4000), 16, 0.75)
    torch.testing.assert_close(keep.flatten().bincount() / 4000, torch.full((16,), 0.25), atol=0.03, rtol=0)
