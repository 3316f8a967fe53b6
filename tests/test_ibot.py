"""iBOT: masks are as drawn, losses and steps are the paper's equations, and the mask token learns from every batch."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from common.batch import Batch, BatchKey
from ssl_modules.losses.dino import Centering
from ssl_modules.losses.ibot import masked_patch_losses
from ssl_modules.networks.masks import draw_view_masks
from ssl_modules.networks.patches import cut_patches, join_patches
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from tests.draws import draw_normal, make_generator
from tests.errors import refused_in_one_line
from tests.figure_runs import build_tiny_data, find_case
from tests.methods import build, train
from tests.test_distillation import dino_in_loops, draw_batch, softmax_in_loops

IBOT = find_case("IBOT")
HALVES = [torch.bfloat16, torch.float16]


def draw_mask(views: int = 2, images: int = 3, patches: int = 4) -> Tensor:
    """Any masks, with views that have none."""
    mask = torch.rand(views, images, patches, generator=make_generator(3)) < 0.5
    mask[0, 0] = False
    return mask


def ibot_in_loops(student: Tensor, targets: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Equation 2 of the paper, one patch at a time, in float64: (B,), means over views of (G, B, N, K)."""
    losses = []
    for image in range(mask.shape[1]):
        of_views = []
        for view in range(mask.shape[0]):
            masked = [n for n in range(mask.shape[2]) if mask[view, image, n]]
            entropies = []
            for n in masked:
                p_s = softmax_in_loops(student[view, image, n].double() / temperature)
                p_t = targets[view, image, n].double()
                entropies.append(-sum(a * b.log() for a, b in zip(p_t, p_s, strict=True)))
            of_views.append(
                sum(entropies) / len(masked) if masked else student.new_zeros((), dtype=torch.float64)
            )
        losses.append(sum(of_views) / len(of_views))
    return torch.stack(losses)


# --- the loss


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_ibot_and_its_gradient_are_the_equation_of_the_paper(temperature):
    mask, targets = draw_mask(), draw_normal(2, 3, 4, 5, seed=1).softmax(-1)
    ours = draw_normal(2, 3, 4, 5).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    losses = masked_patch_losses(ours[mask], targets[mask], mask, temperature)
    expected = ibot_in_loops(theirs, targets, mask, temperature)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    losses.mean().backward(), expected.mean().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-6, rtol=1e-4)
    assert ours.grad[~mask].abs().sum() == 0


def test_ibot_known_values():
    mask = torch.tensor([[[True, False, True]], [[False, False, False]]])
    targets, flat = draw_normal(2, 8).softmax(-1), torch.ones(2, 8)
    assert masked_patch_losses(flat, targets, mask, 0.1).item() == pytest.approx(math.log(8) / 2)
    assert masked_patch_losses(flat, targets, mask[:1], 0.1).item() == pytest.approx(math.log(8))
    sure = torch.eye(8)[:2]
    assert masked_patch_losses(100 * sure, sure, mask, 0.1).item() == pytest.approx(0)


@pytest.mark.parametrize("dtype", HALVES)
def test_ibot_is_computed_in_float32(dtype):
    mask, targets = draw_mask(), draw_normal(2, 3, 4, 5, seed=1).softmax(-1)
    student = draw_normal(2, 3, 4, 5)[mask]
    losses = masked_patch_losses(student.to(dtype), targets[mask], mask, 0.1)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, masked_patch_losses(student.to(dtype).float(), targets[mask], mask, 0.1))
    expected = masked_patch_losses(student, targets[mask], mask, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(masked_patch_losses(student, targets[mask], mask, 0.1), expected)


def test_ibot_agrees_with_lightly():
    """Whose center is the mean of masked patches alone; here, as in the paper's code, it is the mean of all."""
    lightly = pytest.importorskip("lightly.loss")
    reference, centering, mask = lightly.IBOTPatchLoss(12), Centering(12, 0.9), draw_mask(2, 8, 9)
    for batch in range(3):
        student, teacher = (draw_normal(2, 8, 9, 12, seed=seed)[mask] for seed in (batch, 10 + batch))
        expected = reference(teacher, student, mask.view(16, 3, 3), teacher_temp=0.05)
        losses = masked_patch_losses(student, centering(teacher, 0.05), mask, 0.1)
        centering.update()
        torch.testing.assert_close(losses.mean(), expected)
        torch.testing.assert_close(centering.center, reference.center.value.flatten())


def test_the_center_of_patches_is_of_all_and_distributions_are_of_the_masked():
    mask, logits, centering = draw_mask(), draw_normal(2, 3, 4, 5), Centering(5, 0.5)
    everything = centering(logits, 0.1)
    some = centering(logits, 0.1, mask=mask)
    assert torch.equal(some, everything[mask])
    centering.update()
    torch.testing.assert_close(centering.center, logits.flatten(0, 2).mean(0) / 2)


# --- masks


@pytest.mark.parametrize("grid", [(2, 2), (3, 5), (8, 8), (14, 14)])
def test_half_of_the_views_are_masked_as_much_as_asked_for(grid):
    patches, shares = grid[0] * grid[1], []
    for number in range(20):
        mask = draw_view_masks(BatchKey.single(number, 32), 2, grid)
        assert mask.shape == (2, 32, patches) and mask.dtype == torch.bool
        counts = mask.sum(2)
        assert ((counts > 0).sum(0) == 1).all() and counts.max() <= max(1, 0.5 * patches)
        shares.append(counts.max(0).values / patches)
    shares = torch.cat(shares)
    if patches >= 64:
        assert shares.mean() == pytest.approx(0.3, abs=0.02) and shares.min() < 0.13 and shares.max() > 0.45
        assert shares.min() > 0.06  # a share is never missed by much
    chosen = torch.stack([draw_view_masks(BatchKey.single(n, 32), 2, grid).any(2)[0] for n in range(40)])
    assert chosen.float().mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("views, masked", [(2, 1), (3, 1), (4, 2)])
def test_as_many_views_of_every_image_are_masked(views, masked):
    assert (draw_view_masks(BatchKey.single(0, 16), views, (4, 4)).any(2).sum(0) == masked).all()


def test_masks_are_blocks():
    """Of two neighbors, both are masked or none, more often than of patches drawn one by one."""
    mask = draw_view_masks(BatchKey.single(0, 256), 2, (14, 14))
    mask = mask[mask.any(2)].view(-1, 14, 14).float()
    together = (mask[:, :, 1:] == mask[:, :, :-1]).float().mean()
    assert together > 0.85 and (mask.mean((1, 2)) ** 2 + (1 - mask.mean((1, 2))) ** 2).mean() < 0.65


def test_masks_reach_all_patches_and_favor_no_side():
    """Only the middle, as all blocks within a square do."""
    mask = sum(draw_view_masks(BatchKey.single(n, 64), 2, (8, 8)).float().mean((0, 1)) for n in range(30))
    assert mask.min() > 0.1 * mask.max()
    for halves in (mask.view(8, 8).sum(0), mask.view(8, 8).sum(1)):
        assert halves[:4].sum().item() == pytest.approx(halves[4:].sum().item(), rel=0.05)


@pytest.mark.parametrize("grid", [(4, 4), (8, 8)])
def test_two_processes_draw_what_one_draws(grid):
    whole = BatchKey.single(5, 22)
    mask = draw_view_masks(whole, 2, grid)
    for rows in (slice(0, 22, 2), slice(1, 22, 2)):
        assert torch.equal(draw_view_masks(replace(whole, local=rows), 2, grid), mask[:, rows])


# --- the step


def build_drifted(case) -> nn.Module:
    """The method, whose teacher is not its student, in the state of training."""
    method = build(case)
    with torch.no_grad():
        for i, parameter in enumerate(method.parameters()):
            parameter.add_(0.02 * draw_normal(*parameter.shape, seed=i))
        for name, buffer in method.named_buffers():
            if name.endswith("center"):
                buffer.copy_(0.1 * draw_normal(*buffer.shape, seed=5))
    return method


def hide_by_hand(method: nn.Module, view: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, D) and tokens (B, N, D) of the student, with the mask token written over embedded patches."""
    encoder = method.student
    x = encoder.patch_embed(view).flatten(2).mT.clone()
    for image, row in enumerate(mask):
        for n in range(len(row)):
            if row[n]:
                x[image, n] = method.mask_token
    x = torch.cat([encoder.cls_token.expand(len(x), -1, -1), x + encoder.positions], 1)
    tokens = encoder.norm(encoder.blocks(x))[:, 1:]
    return tokens.mean(1), tokens


def recompute_ibot(method: nn.Module, views: list[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of images and of patches, one view at a time."""
    masked = [hide_by_hand(method, view, mask[g]) for g, view in enumerate(views[:2])]
    features = [features for features, _ in masked] + [method.student(view) for view in views[2:]]
    student = torch.stack([method.head(f)[1] for f in features])
    of_patches = torch.stack([method.head.compare_patches(tokens) for _, tokens in masked])
    with torch.no_grad():
        tokens = [method.encoder.encode_tokens(view)[1] for view in views[:2]]
        teacher = torch.stack([method.teacher_head(t.mean(1))[1] for t in tokens])
        wanted = torch.stack([method.teacher_head.compare_patches(t) for t in tokens])
        wanted = ((wanted - method.patch_centering.center) / method.schedules[1][0]).softmax(-1)
    temperatures = method.temperature, method.schedules[0][0]
    images = dino_in_loops(student, teacher, method.centering.center, temperatures)
    return images.mean(), ibot_in_loops(of_patches, wanted, mask, method.temperature).mean()


@pytest.mark.parametrize("shared", [True, False])
def test_a_step_and_its_gradients_are_an_independent_computation(shared):
    more = {"shared_head": shared, "patch_temperatures": (0.06, 0.07)}
    method, batch = build_drifted(IBOT._replace(arguments=IBOT.arguments | more)), draw_batch(IBOT)
    by_hand = copy.deepcopy(method).double()
    out = method.training_step(batch, 0)
    mask = draw_view_masks(batch.key, 2, (4, 4))
    terms = recompute_ibot(by_hand, [view.double() for view in batch.views], mask)
    for name, term in zip(("class_loss", "patch_loss"), terms, strict=True):
        torch.testing.assert_close(out["metrics"][name].double(), term, atol=1e-5, rtol=1e-5)
    loss, expected = out["loss"], sum(terms)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        teacher = name.startswith(("encoder.", "teacher_head."))
        assert teacher == (parameter.grad is None) == (method.get_parameter(name).grad is None), name
        if not teacher:
            ours = method.get_parameter(name).grad.double()
            torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("name", ["IBOT", "DINOv2"])
def test_the_mask_token_learns_from_every_batch(name):
    """Of one image, too, on a process of several."""
    case, key = find_case(name), BatchKey.single(0, 2)
    method = build(case)
    for number in range(20):
        batch = draw_batch(case, images=1, seed=number)
        method.zero_grad()
        method.training_step(batch._replace(key=replace(key, number=number, local=slice(1, 2))), 0)[
            "loss"
        ].backward()
        for parameter_name, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        assert method.mask_token.grad.abs().sum() > 0


def test_the_student_does_not_see_masked_patches():
    method, batch = build_drifted(IBOT), draw_batch(IBOT)
    mask = draw_view_masks(batch.key, 2, (4, 4))
    others = [draw_normal(6, 3, 16, 16, seed=9 + g) for g in range(2)]
    mixed = [
        join_patches(
            torch.where(mask[g][..., None], cut_patches(others[g], 4), cut_patches(view, 4)), 4, (4, 4)
        )
        for g, view in enumerate(batch.views[:2])
    ]
    outs = [method.student.encode_tokens(view, mask=mask[0], mask_token=method.mask_token) for view in
            (batch.views[0], mixed[0])]  # fmt: skip
    assert torch.equal(outs[0][0], outs[1][0]) and torch.equal(outs[0][1], outs[1][1])
    losses = [method.training_step(Batch([*pair, *batch.views[2:]], *batch[1:]), 0)["metrics"]["patch_loss"]
              for pair in (batch.views[:2], mixed)]  # fmt: skip
    assert losses[0] != losses[1]  # of the teacher they are the targets


def test_centers_and_prototypes_of_patches_move_as_those_of_images(data_dir, tmp_path):
    arguments = IBOT.arguments | {"shared_head": False, "frozen_epochs": 1}
    method = build(IBOT._replace(arguments=arguments))
    before = copy.deepcopy(method.state_dict())
    train(method, build_tiny_data(IBOT, data_dir), tmp_path, max_epochs=1)
    after = method.state_dict()
    still = {name for name, value in before.items() if torch.equal(value, after[name])}
    heads = ("head.", "head.patches.", "teacher_head.", "teacher_head.patches.")
    frozen = {f"{head}prototypes.weight" for head in heads}
    assert still == frozen
    assert not torch.equal(after["centering.center"], after["patch_centering.center"])


def test_a_transformer_of_timm_learns(data_dir, tmp_path):
    options = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    case = IBOT._replace(encoder=lambda norm: Timm("vit_tiny_patch16_224", img_size=16, options=options))
    method = build(case)
    method.training_step(draw_batch(case), 0)["loss"].backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    train(method, build_tiny_data(case, data_dir), tmp_path, max_steps=2)


# --- what cannot work


@pytest.mark.parametrize("name", ["IBOT", "DINOv2"])
def test_an_encoder_without_tokens_is_refused_in_one_line(name):
    with refused_in_one_line(f"{name} needs an encoder of patches", "not a ResNet"):
        build(find_case(name)._replace(encoder=lambda norm: ResNet(widths=[8], blocks=[1])))


@pytest.mark.parametrize(
    "sizes, words",
    [((4, 4), "views of at least two patches a side"), ((16, 16, 10), "do not fill a view of 10x10")],
)
def test_views_that_cannot_be_masked_are_refused_in_one_line(sizes, words, data_dir, tmp_path):
    case = IBOT._replace(sizes=sizes)
    with refused_in_one_line(words):
        train(build(case), build_tiny_data(case, data_dir), tmp_path)
