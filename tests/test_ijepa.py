"""I-JEPA: blocks are as the paper draws them, loss and step are independent computations, tokens alone are compared."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.batch import Batch, BatchKey
from ssl_modules.losses.ijepa import block_losses, standardize_tokens
from ssl_modules.networks.masks import draw_block, draw_context_and_targets, place_blocks
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from tests.draws import draw_normal, make_generator
from tests.errors import refused_in_one_line
from tests.figure_runs import build_tiny_data, find_case
from tests.methods import build, small_vit, train

IJEPA = find_case("IJEPA")
GRIDS = [((4, 4), 4), ((8, 8), 10), ((14, 14), 10), ((6, 10), 10)]


def standardize_in_loops(token: Tensor) -> list[Tensor]:
    mean = sum(token) / len(token)
    variance = sum((x - mean) ** 2 for x in token) / len(token)
    return [(x - mean) / (variance + 1e-5).sqrt() for x in token]


def ijepa_in_loops(predictions: Tensor, targets: Tensor) -> Tensor:
    """The smooth L1 distance, one number of one patch of one block at a time, in float64: (B,)"""
    losses = []
    for predicted, wanted in zip(predictions.double(), targets.double(), strict=True):
        errors = [abs(p - t) for p, t in zip(predicted.flatten(), wanted.flatten(), strict=True)]
        losses.append(sum(e**2 / 2 if e < 1 else e - 0.5 for e in errors) / len(errors))
    return torch.stack(losses)


# --- the loss


def test_ijepa_and_its_gradient_are_the_distance_in_loops():
    ours, targets = draw_normal(3, 2, 4, 5).mul(2).requires_grad_(), draw_normal(3, 2, 4, 5, seed=1)
    theirs = ours.detach().double().requires_grad_()
    losses, expected = block_losses(ours, targets), ijepa_in_loops(theirs, targets)
    torch.testing.assert_close(losses.double(), expected, atol=1e-6, rtol=1e-5)
    losses.mean().backward(), expected.mean().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-7, rtol=1e-5)


def test_near_the_targets_it_is_half_of_the_papers_mean_square():
    targets = draw_normal(3, 2, 4, 5)
    predictions = targets + 0.1 * draw_normal(3, 2, 4, 5, seed=1)
    paper = (predictions - targets).square().sum((2, 3)).mean(1) / 20  # a block has 20 numbers
    torch.testing.assert_close(block_losses(predictions, targets), paper / 2)
    torch.testing.assert_close(block_losses(targets + 1, targets), torch.full((3,), 0.5))
    torch.testing.assert_close(block_losses(targets - 3, targets), torch.full((3,), 2.5))


def test_targets_are_standardized_as_by_hand():
    tokens = 3 * draw_normal(2, 4, 6) + 5
    expected = torch.stack(
        [torch.stack(standardize_in_loops(token)) for token in tokens.double().flatten(0, 1)]
    )
    torch.testing.assert_close(
        standardize_tokens(tokens).double().flatten(0, 1), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ijepa_is_computed_in_float32(dtype):
    predictions, targets = (
        draw_normal(3, 2, 4, 5),
        standardize_tokens(draw_normal(3, 2, 4, 5, seed=1).to(dtype)),
    )
    losses = block_losses(predictions.to(dtype), targets)
    assert targets.dtype == losses.dtype == torch.float32
    assert torch.equal(losses, block_losses(predictions.to(dtype).float(), targets))
    expected = block_losses(predictions, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block_losses(predictions, targets), expected)


# --- blocks


def describe_block(places: Tensor, columns: int) -> tuple[int, int]:
    """Rows and columns of a block, which has no holes."""
    rows, of_row = {n // columns for n in places.tolist()}, {n % columns for n in places.tolist()}
    assert len(places) == len(rows) * len(of_row) == len(set(places.tolist()))
    assert max(rows) - min(rows) == len(rows) - 1 and max(of_row) - min(of_row) == len(of_row) - 1
    return len(rows), len(of_row)


@pytest.mark.parametrize("grid, least", GRIDS)
def test_blocks_are_of_the_papers_scales_and_shapes_and_apart_from_the_context(grid, least):
    patches, shapes = grid[0] * grid[1], set()
    for number in range(20):
        context, targets = draw_context_and_targets(BatchKey.single(number, 16), grid, min_context=least)
        assert context.shape[0] == 16 and context.shape[1] >= least and targets.shape[:2] == (16, 4)
        rows, columns = describe_block(targets[0, 0], grid[1])
        shapes.add((rows, columns))
        # to half a patch in each direction
        assert (rows - 0.5) * (columns - 0.5) <= 0.2 * patches and (rows + 0.5) * (
            columns + 0.5
        ) >= 0.15 * patches
        assert (rows - 0.5) / (columns + 0.5) <= 1.5 and (rows + 0.5) / max(columns - 0.5, 0.5) >= 0.75
        for seen, blocks in zip(context, targets, strict=True):
            assert not set(seen.tolist()) & set(blocks.flatten().tolist())
            assert seen.tolist() == sorted(set(seen.tolist())) and seen.min() >= 0 and seen.max() < patches
            assert {describe_block(block, grid[1]) for block in blocks} == {(rows, columns)}
    assert len(shapes) > 1


def test_shares_and_shapes_of_blocks_fill_their_ranges():
    generator, grid = make_generator(), (1000, 1000)
    blocks = torch.tensor(
        [draw_block(generator, grid, (0.15, 0.2), (0.75, 1.5)) for _ in range(500)]
    ).double()
    shares, ratios = blocks.prod(1) / 1e6, blocks[:, 0] / blocks[:, 1]
    for values, low, high in ((shares, 0.15, 0.2), (ratios, 0.75, 1.5)):
        assert low - 0.003 < values.min() < low + 0.05 * high and high * 0.95 < values.max() < high + 0.003
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.03)
    assert torch.corrcoef(torch.stack([shares, ratios]))[0, 1].abs() < 0.15


def test_blocks_reach_all_places_alike():
    corners = torch.rand(20_000, 2, generator=make_generator())
    blocks = place_blocks(corners, 2, 3, (4, 5)).view(-1, 4, 5)
    first_rows, first_columns = blocks.any(2).int().argmax(1), blocks.any(1).int().argmax(1)
    counts = torch.bincount(first_rows * 3 + first_columns, minlength=9)
    assert len(counts) == 9 and (counts / 20_000 - 1 / 9).abs().max() < 0.01


@pytest.mark.parametrize("grid, least", GRIDS)
def test_two_processes_draw_what_one_draws(grid, least):
    whole = BatchKey.single(5, 22)
    context, targets = draw_context_and_targets(whole, grid, min_context=least)
    for rows in (slice(0, 22, 2), slice(1, 22, 2)):
        mine = draw_context_and_targets(replace(whole, local=rows), grid, min_context=least)
        assert torch.equal(mine[0], context[rows]) and torch.equal(mine[1], targets[rows])


@pytest.mark.parametrize("grid", [(2, 2), (2, 3), (3, 3), (4, 4)])
def test_no_context_is_ever_empty(grid):
    """Even where no draw leaves as many patches as are asked for: then the targets lie on each other."""
    for number in range(30):
        context, _ = draw_context_and_targets(BatchKey.single(number, 64), grid, min_context=100)
        assert context.shape[1] >= 1


def test_the_context_is_cut_at_random():
    """In reading order, as in the authors' code, images with many patches would lose the lower ones."""
    share, grid = torch.zeros(64), (8, 8)
    for number in range(200):
        context, _ = draw_context_and_targets(BatchKey.single(number, 32), grid)
        share += torch.bincount(context.flatten(), minlength=64) / context.numel()
    upper, lower = share.view(8, 8)[:4].sum(), share.view(8, 8)[4:].sum()
    assert upper / lower == pytest.approx(1, abs=0.05)


# --- the step


def make_batch(images: int = 5, number: int = 3) -> Batch:
    view, key = draw_normal(images, 3, 16, 16), BatchKey.single(number, images)
    return Batch([view], torch.zeros(images), torch.arange(images), key)


def test_a_step_and_its_gradients_are_an_independent_computation():
    method, batch = build(IJEPA), make_batch()
    with torch.no_grad():
        for i, parameter in enumerate(method.parameters()):
            parameter.add_(0.02 * draw_normal(*parameter.shape, seed=i))
    by_hand = copy.deepcopy(method).double()
    loss = method.training_step(batch, 0)["loss"]
    contexts, targets = draw_context_and_targets(batch.key, (4, 4), min_context=4)
    losses = []
    for image, context, blocks in zip(batch.views[0].double(), contexts, targets, strict=True):
        given = by_hand.student.encode_tokens(image[None], context[None])[1]
        whole = by_hand.encoder(image[None]), by_hand.encoder.encode_tokens(image[None])[1][0].detach()
        for block in blocks:  # one image and one block at a time
            predicted = by_hand.predictor(given, context[None], block[None, None], (4, 4))
            wanted = torch.stack([torch.stack(standardize_in_loops(whole[1][n])) for n in block])
            losses.append(ijepa_in_loops(predicted, wanted[None, None]))
    expected = torch.cat(losses).mean()
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder."), name
        if parameter.grad is not None:
            ours = method.get_parameter(name).grad.double()
            torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_a_student_sees_the_context_alone_and_a_predictor_the_places():
    method, batch = build(IJEPA), make_batch()
    context, targets = draw_context_and_targets(batch.key, (4, 4), min_context=4)
    view, other = batch.views[0], draw_normal(5, 3, 16, 16, seed=9)
    hidden = torch.ones(5, 16, dtype=torch.bool).scatter(1, context, False).view(5, 1, 4, 4)
    mixed = torch.where(hidden.repeat_interleave(4, 2).repeat_interleave(4, 3), other, view)
    with torch.no_grad():
        tokens = [method.student.encode_tokens(v, context)[1] for v in (view, mixed)]
        assert torch.equal(*tokens)
        first = method.predictor(tokens[0], context, targets, (4, 4))
        # the order of what is given does not matter, the place of what is asked does
        turned = method.predictor(tokens[0].flip(1), context.flip(1), targets, (4, 4))
        torch.testing.assert_close(turned, first, atol=1e-5, rtol=1e-4)
        moved = method.predictor(tokens[0], context, (targets + 1) % 16, (4, 4))
        assert (moved - first).abs().max() > 1e-3


def test_a_transformer_of_timm_learns(data_dir, tmp_path):
    options = {
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "global_pool": "avg",
        "fc_norm": False,
    }
    case = IJEPA._replace(encoder=lambda norm: Timm("vit_tiny_patch16_224", img_size=16, options=options))
    method = build(case)
    method.training_step(make_batch(), 0)["loss"].backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    train(method, build_tiny_data(case, data_dir), tmp_path, max_steps=2)


def test_what_an_encoder_has_frozen_stays_frozen_in_the_student():
    def build_frozen(norm):
        encoder = small_vit(norm)
        encoder.patch_embed.requires_grad_(False)
        return encoder

    for name in ("IJEPA", "DINO"):
        method = build(find_case(name)._replace(encoder=build_frozen))
        assert not any(p.requires_grad for p in method.encoder.parameters())
        trained = {name for name, p in method.student.named_parameters() if p.requires_grad}
        assert trained == {n for n, _ in small_vit("").named_parameters() if not n.startswith("patch_embed")}


# --- what cannot work


def test_an_encoder_without_tokens_is_refused_in_one_line():
    with refused_in_one_line("IJEPA needs an encoder of patches", "not a ResNet"):
        build(IJEPA._replace(encoder=lambda norm: ResNet(widths=[8], blocks=[1])))


def test_too_few_patches_are_refused_in_one_line(data_dir, tmp_path):
    method = build(IJEPA, min_context=5)
    with refused_in_one_line("IJEPA needs exactly one view, of 20 patches or more", r"1 view \(16 px\)"):
        train(method, build_tiny_data(IJEPA, data_dir), tmp_path)
