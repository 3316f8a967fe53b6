"""BYOL and DINO: losses, gradients and whole steps are the papers' equations, and no gradient reaches a teacher."""

import copy
import math
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from common.batch import Batch, BatchKey
from ssl_modules.losses.byol import prediction_losses
from ssl_modules.losses.dino import Centering, self_distillation
from tests.draws import draw_normal, make_generator
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.test_methods import tiny

BYOL, DINO = find_case("BYOL"), find_case("DINO")
HALVES = [torch.bfloat16, torch.float16]


def draw_batch(case, images: int = 6, seed: int = 1) -> Batch:
    """Normal views of some images."""
    views = [draw_normal(images, 3, size, size, seed=seed + i) for i, size in enumerate(case.sizes)]
    return Batch(views, torch.arange(images) % 4, torch.arange(images), BatchKey.single(7, images))


def assert_gradients_close(losses: tuple[Tensor, Tensor], inputs: tuple[list[Tensor], list[Tensor]]) -> None:
    """The gradients of two scalars, each by its own inputs, agree."""
    ours, theirs = (torch.autograd.grad(loss, x) for loss, x in zip(losses, inputs, strict=True))
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient.double(), expected, atol=1e-5, rtol=1e-4)


# --- BYOL's loss


def byol_in_loops(predictions: Tensor, targets: Tensor) -> Tensor:
    """Equation 2 of the paper, one image and one number at a time, in float64: (B,)"""
    losses = []
    for q, z in zip(predictions.double(), targets.double(), strict=True):
        length_q, length_z = (sum(x * x for x in vector).sqrt() for vector in (q, z))
        losses.append(sum((a / length_q - b / length_z) ** 2 for a, b in zip(q, z, strict=True)))
    return torch.stack(losses)


@pytest.mark.parametrize("images, dim", [(1, 2), (2, 7), (9, 3)])
def test_byol_and_its_gradient_are_the_equation_of_the_paper(images, dim):
    ours, targets = draw_normal(images, dim).requires_grad_(), draw_normal(images, dim, seed=1)
    theirs = ours.detach().double().requires_grad_()
    losses, expected = prediction_losses(ours, targets), byol_in_loops(theirs, targets)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    assert_gradients_close((losses.mean(), expected.mean()), ([ours], [theirs]))


def test_byol_known_values():
    one = draw_normal(5, 4)
    orthogonal = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    torch.testing.assert_close(prediction_losses(one, 7 * one), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(prediction_losses(one, -one), torch.full((5,), 4.0))
    assert prediction_losses(*orthogonal).tolist() == [2.0]


def test_byol_ignores_scale_and_goes_with_the_order_of_images():
    q, z, order = draw_normal(6, 5), draw_normal(6, 5, seed=1), torch.tensor([3, 0, 5, 1, 4, 2])
    losses = prediction_losses(q, z)
    torch.testing.assert_close(prediction_losses(100 * q, 0.01 * z), losses)
    torch.testing.assert_close(prediction_losses(q[order], z[order]), losses[order])
    torch.testing.assert_close(prediction_losses(z, q), losses)


@pytest.mark.parametrize("scale", [0.0, 1e-15, 1e-6, 1e6, 1e15])
def test_byol_is_finite_for_vectors_of_any_size(scale):
    q, z = draw_normal(6, 5).mul(scale).requires_grad_(), draw_normal(6, 5, seed=1) * scale
    losses = prediction_losses(q, z)
    losses.sum().backward()
    assert losses.isfinite().all() and q.grad.isfinite().all()


@pytest.mark.parametrize("dtype", HALVES)
def test_byol_is_computed_in_float32(dtype):
    q, z = draw_normal(6, 5), draw_normal(6, 5, seed=1)
    halves = q.to(dtype), z.to(dtype)
    losses = prediction_losses(*halves)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, prediction_losses(*(x.float() for x in halves)))
    expected = prediction_losses(q, z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prediction_losses(q, z), expected)


def test_byol_reaches_no_target():
    q, z = (draw_normal(6, 5, seed=seed).requires_grad_() for seed in range(2))
    prediction_losses(q, z).sum().backward()
    assert q.grad.abs().sum() > 0 and z.grad is None


def test_byol_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    q, z = draw_normal(32, 16), draw_normal(32, 16, seed=1)
    expected = lightly.NegativeCosineSimilarity()(q, z)  # - cos, where the paper and we have 2 - 2 cos
    torch.testing.assert_close(prediction_losses(q, z).mean(), 2 + 2 * expected)


# --- DINO's loss


def softmax_in_loops(logits: Tensor) -> list[Tensor]:
    largest = max(logits.tolist())
    numbers = [(x - largest).exp() for x in logits]
    return [x / sum(numbers) for x in numbers]


def dino_in_loops(
    student: Tensor, teacher: Tensor, center: Tensor, temperatures: tuple[float, float]
) -> Tensor:
    """Equation 3 of the paper, of one pair of views of one image at a time, in float64: (B,), means over pairs."""
    student, teacher, center = student.double(), teacher.double(), center.double()
    of_student, of_teacher = temperatures
    losses = []
    for image in range(student.shape[1]):
        entropies = []
        for g in range(len(teacher)):
            p_t = softmax_in_loops((teacher[g, image] - center) / of_teacher)
            for v in range(len(student)):
                if v != g:
                    p_s = softmax_in_loops(student[v, image] / of_student)
                    entropies.append(-sum(a * b.log() for a, b in zip(p_t, p_s, strict=True)))
        losses.append(sum(entropies) / len(entropies))
    return torch.stack(losses)


def center_at(values: Tensor, momentum: float = 0.9) -> Centering:
    centering = Centering(len(values), momentum)
    centering.center.copy_(values)
    return centering


def compute_dino(
    student: Tensor, teacher: Tensor, center: Tensor, temperatures: tuple[float, float]
) -> Tensor:
    of_student, of_teacher = temperatures
    return self_distillation(student, center_at(center)(teacher, of_teacher), of_student)


SHAPES = [(1, 2, 1, 2), (2, 2, 3, 5), (2, 5, 4, 6), (3, 4, 2, 3)]  # G, V, B, K


@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (1.0, 0.5), (0.5, 1.0)])
@pytest.mark.parametrize("large, views, images, prototypes", SHAPES)
def test_dino_and_its_gradient_are_the_equation_of_the_paper(large, views, images, prototypes, temperatures):
    ours = draw_normal(views, images, prototypes).requires_grad_()
    teacher, center = draw_normal(large, images, prototypes, seed=1), draw_normal(prototypes, seed=2)
    theirs = ours.detach().double().requires_grad_()
    losses = compute_dino(ours, teacher, center, temperatures)
    expected = dino_in_loops(theirs, teacher, center, temperatures)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    assert_gradients_close((losses.mean(), expected.mean()), ([ours], [theirs]))


def test_the_center_is_the_running_mean_of_the_paper():
    centering, expected = center_at(draw_normal(4), momentum=0.7), draw_normal(4).double()
    for batch in range(3):
        logits, before = draw_normal(2, 5, 4, seed=batch), centering.center.clone()
        centering(logits, 0.04)
        assert torch.equal(centering.center, before)  # until the batch has been learned from
        centering.update()
        mean = sum(logits[g, i].double() for g in range(2) for i in range(5)) / 10
        expected = 0.7 * expected + 0.3 * mean
        torch.testing.assert_close(centering.center.double(), expected, atol=1e-6, rtol=1e-5)


def test_dino_known_values():
    teacher, flat = draw_normal(2, 3, 8), torch.ones(5, 3, 8)
    losses = compute_dino(flat, teacher, torch.zeros(8), (0.1, 0.04))
    torch.testing.assert_close(losses, torch.full((3,), math.log(8)))
    sure = 100 * torch.eye(8)[:3].expand(2, 3, 8)  # each image has a prototype of its own
    torch.testing.assert_close(
        compute_dino(sure, sure, torch.zeros(8), (0.1, 0.04)), torch.zeros(3), atol=1e-6, rtol=0
    )


def test_dino_goes_with_the_order_of_images_and_not_of_prototypes():
    student, teacher, center = draw_normal(5, 6, 4), draw_normal(2, 6, 4, seed=1), draw_normal(4, seed=2)
    losses = compute_dino(student, teacher, center, (0.1, 0.04))
    images, prototypes = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    for order, moved in [
        (images, (student[:, images], teacher[:, images], center)),
        (slice(None), (student[..., prototypes], teacher[..., prototypes], center[prototypes])),
        (slice(None), (student[[1, 0, 4, 2, 3]], teacher[[1, 0]], center)),  # large views, small views
        (slice(None), (student + 3, teacher + 5, center + 2)),  # softmaxes ignore a shift
    ]:
        torch.testing.assert_close(compute_dino(*moved, (0.1, 0.04)), losses[order], atol=1e-4, rtol=1e-4)


def test_no_view_is_compared_with_itself():
    student, targets = draw_normal(2, 1, 4).requires_grad_(), torch.zeros(2, 1, 4)
    targets[0, 0, 1] = 1  # only the first view has a target
    self_distillation(student, targets, 0.1).sum().backward()
    assert student.grad[0].abs().sum() == 0 and student.grad[1].abs().sum() > 0


def test_centering_and_sharpening_pull_opposite_ways():
    logits = draw_normal(1, 50, 6) + torch.tensor([5.0, 0, 0, 0, 0, 0])  # all images prefer one prototype
    centering = Centering(6, momentum=0.0)
    before = centering(logits, 1.0)
    centering.update()
    after, sharp = centering(logits, 1.0), centering(logits, 0.04)
    assert before.mean((0, 1))[0] > 0.8 and after.mean((0, 1)).max() < 0.3
    assert sharp.max(2).values.mean() > after.max(2).values.mean() + 0.3


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4, 1e30])
def test_dino_is_finite_for_logits_of_any_size(scale):
    student, teacher = draw_normal(5, 6, 4).mul(scale).requires_grad_(), draw_normal(2, 6, 4, seed=1) * scale
    losses = compute_dino(student, teacher, torch.zeros(4), (0.1, 0.04))
    losses.sum().backward()
    assert losses.isfinite().all() and student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", HALVES)
def test_dino_is_computed_in_float32(dtype):
    student, teacher, center = draw_normal(5, 6, 4), draw_normal(2, 6, 4, seed=1), draw_normal(4, seed=2)
    halves = student.to(dtype), teacher.to(dtype)
    losses = compute_dino(*halves, center, (0.1, 0.04))
    assert losses.dtype == torch.float32
    assert torch.equal(losses, compute_dino(*(x.float() for x in halves), center, (0.1, 0.04)))
    expected = compute_dino(student, teacher, center, (0.1, 0.04))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compute_dino(student, teacher, center, (0.1, 0.04)), expected)


def test_dino_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    reference, centering = (
        lightly.DINOLoss(12, teacher_temp=0.05, warmup_teacher_temp=0.05),
        Centering(12, 0.9),
    )
    for batch in range(3):
        student, teacher = draw_normal(5, 16, 12, seed=batch), draw_normal(2, 16, 12, seed=10 + batch)
        # the mean over the same G (V - 1) pairs; its center moves within the call
        expected = reference([*teacher], [*student], teacher_temp=0.05)
        losses = self_distillation(student, centering(teacher, 0.05), 0.1)
        centering.update()
        torch.testing.assert_close(losses.mean(), expected)
        torch.testing.assert_close(centering.center, reference.center.flatten())


# --- the whole steps


def apply_perceptron(layers: nn.Sequential, rows: Tensor) -> Tensor:
    """(B, D) -> (B, P) of a perceptron in training mode, by formulas."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            rows = rows @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        elif isinstance(layer, nn.BatchNorm1d):
            spread = ((rows - rows.mean(0)) ** 2).mean(0)
            rows = (rows - rows.mean(0)) / (spread + layer.eps).sqrt() * layer.weight + layer.bias
        elif isinstance(layer, nn.GELU):
            rows = rows * (1 + torch.erf(rows / math.sqrt(2))) / 2
        else:
            rows = rows.clamp(min=0)
    return rows


def recompute_byol(method: nn.Module, views: list[Tensor]) -> Tensor:
    """The symmetric loss of the paper's section 3.1, one view at a time."""
    predictions = [
        apply_perceptron(method.predictor, apply_perceptron(method.projector, method.encoder(view)))
        for view in views
    ]
    targets = [apply_perceptron(method.teacher[1], method.teacher[0](view)).detach() for view in views]
    pairs = zip(predictions, targets[::-1], strict=True)
    return sum(byol_in_loops(q, z) for q, z in pairs).mean()


def apply_head(head: nn.Module, features: Tensor) -> Tensor:
    """Similarities (B, K) to DINO's prototypes, by formulas."""
    rows = apply_perceptron(head.layers, features)
    rows, prototypes = (x / (x * x).sum(1, keepdim=True).sqrt() for x in (rows, head.prototypes.weight))
    return rows @ prototypes.T


def recompute_dino(method: nn.Module, views: list[Tensor]) -> Tensor:
    """The loss of DINO's algorithm 1 with the method's own options, one view at a time."""
    student = torch.stack([apply_head(method.head, method.student(view)) for view in views])
    teacher = apply_teacher(method, views)
    temperatures = method.temperature, method.teacher_schedule[0]
    return dino_in_loops(student, teacher, method.centering.center, temperatures).mean()


def apply_teacher(method: nn.Module, views: list[Tensor]) -> Tensor:
    """What the teacher says of the two large views (2, B, K)."""
    return torch.stack([apply_head(method.teacher_head, method.encoder(view)) for view in views[:2]]).detach()


def build_drifted(case) -> nn.Module:
    """The method with group norm, whose teacher is not its student, in the state of training."""
    method, generator = build(case, "group"), make_generator(5)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        if hasattr(method, "centering"):
            method.centering.center.normal_(std=0.1, generator=generator)
    return method


@pytest.mark.parametrize(
    "case, recompute", [(BYOL, recompute_byol), (DINO, recompute_dino)], ids=["BYOL", "DINO"]
)
def test_a_step_and_its_gradients_are_an_independent_computation(case, recompute):
    method, batch = build_drifted(case), draw_batch(case)
    by_hand = copy.deepcopy(method).double()
    loss = method.training_step(batch, 0)["loss"]
    expected = recompute(by_hand, [view.double() for view in batch.views])
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward(), expected.backward()
    reached = {name for name, p in method.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in method.named_parameters() if p.requires_grad}
    for name, parameter in by_hand.named_parameters():
        if name in reached:
            ours = method.get_parameter(name).grad.double()
            torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("case", [BYOL, DINO], ids=["BYOL", "DINO"])
def test_no_gradient_reaches_a_teacher_even_if_it_could_learn(case):
    method = build_drifted(case)
    frozen = {name for name, p in method.named_parameters() if not p.requires_grad}
    method.requires_grad_(True)
    method.training_step(draw_batch(case), 0)["loss"].backward()
    assert frozen and frozen == {name for name, p in method.named_parameters() if p.grad is None}


class NoteCenter(Callback):
    """DINO's center at the start of each batch, just before its backward and at its end, and what it should be then."""

    def __init__(self):
        self.before, self.within, self.after, self.expected = [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before.append(module.centering.center.clone())
        with torch.no_grad():
            mean = apply_teacher(module, batch.views).mean((0, 1))
        self.expected.append(0.9 * self.before[-1] + 0.1 * mean)

    def on_before_backward(self, trainer, module, loss):
        self.within.append(module.centering.center.clone())

    def on_train_batch_end(self, trainer, module, *_):
        self.after.append(module.centering.center.clone())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_center_moves_once_a_batch_after_its_backward(data_dir, tmp_path, accumulate):
    method, notes = build(DINO, "group"), NoteCenter()
    options = {"callbacks": [notes], "max_epochs": 2, "accumulate_grad_batches": accumulate}
    train(method, tiny(data_dir, DINO, batch_size=22), tmp_path, **options)
    assert len(notes.within) == 8
    for before, within, after, expected in zip(
        notes.before, notes.within, notes.after, notes.expected, strict=True
    ):
        assert torch.equal(before, within) and not torch.equal(within, after)
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)


class NoteWeights(Callback):
    """Copies of all parameters when training starts and after each epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_start(self, trainer, module):
        self.epochs.append({name: p.detach().clone() for name, p in module.named_parameters()})

    def on_train_epoch_end(self, trainer, module):
        self.on_train_start(trainer, module)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=1.0, momentum=0.9, weight_decay=0.1),
        partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    ],
    ids=["SGD", "AdamW"],
)
def test_prototypes_stay_for_the_first_epochs_and_all_else_moves(data_dir, tmp_path, optimizer):
    """Neither momentum nor weight decay of an optimizer moves them."""
    case, notes = DINO._replace(arguments=DINO.arguments | {"frozen_epochs": 2}), NoteWeights()
    train(build(case, optimizer=optimizer), tiny(data_dir, case), tmp_path, callbacks=[notes], max_epochs=3)
    start, *epochs = notes.epochs
    for epoch, weights in enumerate(epochs):
        still = {name for name, value in weights.items() if torch.equal(value, start[name])}
        frozen = {"head.prototypes.weight", "teacher_head.prototypes.weight"}
        assert still == (frozen if epoch < 2 else set()), epoch
