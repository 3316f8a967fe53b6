"""Teachers follow by hand-computed averages, at the optimizer's steps, from the weights that training starts from."""

import copy

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from ssl_modules.ema import copy_network, copy_weights, update_average
from ssl_modules.schedules import move_by_cosine, scheduled_value
from tests.methods import METHODS, build, train
from tests.test_methods import tiny

# of each method with a teacher: the teacher's parts, and the parts that they follow
TEACHERS = {
    "BYOL": {"teacher.0": "encoder", "teacher.1": "projector"},
    "DINO": {"encoder": "student", "teacher_head": "head"},
    "IBOT": {"encoder": "student", "teacher_head": "head"},
    "DINOv2": {"encoder": "student", "teacher_head": "head"},
    "IJEPA": {"encoder": "student"},
}
CASES = [case for case in METHODS if case.method.__name__ in TEACHERS]


@pytest.fixture(params=CASES, ids=lambda case: case.method.__name__)
def case(request):
    return request.param


def list_pairs(method: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each parameter of the teacher, and the one that it follows."""
    parts = TEACHERS[type(method).__name__].items()
    return [
        pair
        for names in parts
        for pair in zip(*(method.get_submodule(name).parameters() for name in names), strict=True)
    ]


class FollowByHand(Callback):
    """The average of the weights after each optimizer step, number by number in float64."""

    def on_train_start(self, trainer, module):
        self.averages = [teacher.detach().double() for teacher, _ in list_pairs(module)]
        self.steps = 0

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == self.steps:  # gradients are still added up
            return
        momentum = move_by_cosine(module.momentum, 1.0, self.steps / trainer.estimated_stepping_batches)
        pairs = zip(self.averages, list_pairs(module), strict=True)
        self.averages = [momentum * old + (1 - momentum) * new.detach().double() for old, (_, new) in pairs]
        self.steps = trainer.global_step


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_teacher_is_the_moving_average_computed_by_hand(case, data_dir, tmp_path, accumulate):
    method, by_hand = build(case, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1)), FollowByHand()
    options = {"max_epochs": 5, "accumulate_grad_batches": accumulate, "callbacks": [by_hand]}
    train(method, tiny(data_dir, case, batch_size=20), tmp_path, **options)  # four batches an epoch
    assert by_hand.steps == 20 // accumulate
    for expected, (teacher, student) in zip(by_hand.averages, list_pairs(method), strict=True):
        torch.testing.assert_close(teacher.double(), expected, atol=1e-5, rtol=1e-5)
        assert not teacher.requires_grad and student.requires_grad
    assert any(not torch.equal(teacher, student) for teacher, student in list_pairs(method))


class AtStart(Callback):
    """The weights when training starts."""

    def on_train_start(self, trainer, module):
        self.weights = copy.deepcopy(module.state_dict())


def test_a_teacher_starts_from_the_weights_of_ckpt(case, data_dir, tmp_path):
    other = build(case)
    with torch.no_grad():
        for parameter in other.encoder.parameters():
            parameter.add_(1)
    train(other, tiny(data_dir, case), tmp_path, max_steps=1).save_checkpoint(tmp_path / "other.ckpt")
    method, start = build(case, ckpt=str(tmp_path / "other.ckpt")), AtStart()
    train(method, tiny(data_dir, case), tmp_path, callbacks=[start], max_steps=1)
    expected = torch.load(tmp_path / "other.ckpt", weights_only=True)["state_dict"]
    copies = ["encoder", "teacher.0" if case.method.__name__ == "BYOL" else "student"]
    for name in other.encoder.state_dict():
        for copy_name in copies:
            assert torch.equal(start.weights[f"{copy_name}.{name}"], expected[f"encoder.{name}"]), copy_name


def test_a_resumed_teacher_is_not_made_anew(case, data_dir, tmp_path):
    method = build(case)
    train(method, tiny(data_dir, case), tmp_path, max_steps=2).save_checkpoint(tmp_path / "half.ckpt")
    resumed, start = build(case), AtStart()
    options = {"resume_from": tmp_path / "half.ckpt", "callbacks": [start], "max_epochs": 2}
    train(resumed, tiny(data_dir, case), tmp_path, **options)
    for name, value in method.state_dict().items():
        assert torch.equal(start.weights[name], value), name


def test_an_average_moves_by_its_share():
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    before = copy.deepcopy(teacher)
    update_average(teacher, student, 0.75)
    torch.testing.assert_close(teacher.weight, 0.75 * before.weight + 0.25 * student.weight)
    update_average(teacher, student, 1.0)
    torch.testing.assert_close(teacher.bias, 0.75 * before.bias + 0.25 * student.bias)
    copied = copy_network(teacher)
    assert torch.equal(copied.weight, teacher.weight) and not copied.weight.requires_grad
    copy_weights(teacher, student)
    assert torch.equal(teacher.weight, student.weight) and teacher.weight.requires_grad


def test_half_a_cosine_and_a_line_between_two_values():
    assert [move_by_cosine(2, 4, p) for p in (0, 0.5, 1, 1.5)] == pytest.approx([2, 3, 4, 4])
    assert scheduled_value(build(CASES[0]), 0.9, 1.0) == 0.9  # without a Trainer


class NoteMetrics(Callback):
    """What each step measured."""

    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.rows.append({name: float(value) for name, value in outputs["metrics"].items()})


def test_momentum_and_temperature_move_and_are_measured(data_dir, tmp_path):
    case = next(case for case in CASES if case.method.__name__ == "DINO")
    arguments = case.arguments | {"teacher_temperatures": (0.1, 0.2), "temperature_epochs": 1}
    method, notes = build(case._replace(arguments=arguments)), NoteMetrics()
    data = tiny(data_dir, case, batch_size=20)
    train(method, data, tmp_path, callbacks=[notes], max_epochs=2, accumulate_grad_batches=2)
    momenta = [move_by_cosine(0.9, 1.0, step / 4) for step in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert [row["momentum"] for row in notes.rows] == pytest.approx(momenta)
    temperatures = [0.1, 0.1, 0.15, 0.15, 0.2, 0.2, 0.2, 0.2]
    assert [row["teacher_temperature"] for row in notes.rows] == pytest.approx(temperatures)
