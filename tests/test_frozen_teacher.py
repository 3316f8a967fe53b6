"""Distillation: the loss is 2 - 2 cos to a teacher's features, which stay as they are; a random teacher is refused."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from common.batch import Batch, BatchKey
from datamodules.tweets import Tweets
from ssl_modules.networks.char_lstm import CharLSTM
from ssl_modules.networks.frozen_teacher import FrozenTeacher
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from tests.draws import draw_normal
from tests.errors import refused_in_one_line
from tests.figure_runs import find_case
from tests.methods import Case, build, small_resnet, train
from tests.test_methods import SaveInMidEpoch, tiny

SIMCLR, DISTILLATION = find_case("SimCLR"), find_case("Distillation")
OURS = DISTILLATION._replace(teacher=lambda: small_resnet("batch"))  # the encoder of SimCLR's line


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def draw_batch(case: Case = DISTILLATION, images: int = 6) -> Batch:
    views = [draw_normal(images, 3, size, size, seed=i) for i, size in enumerate(case.sizes)]
    return Batch(views, torch.zeros(images), torch.arange(images), BatchKey.single(7, images))


def equal_weights(network: nn.Module, weights: dict[str, Tensor]) -> bool:
    ours = network.state_dict()
    return ours.keys() == weights.keys() and all(torch.equal(ours[name], weights[name]) for name in ours)


@pytest.fixture(scope="module")
def teacher_ckpt(data_dir, tmp_path_factory) -> Path:
    """The checkpoint of a SimCLR that was trained for an epoch."""
    folder = tmp_path_factory.mktemp("teacher")
    train(build(SIMCLR, optimizer=sgd), tiny(data_dir, SIMCLR), folder).save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def read_encoder(path: Path) -> dict[str, Tensor]:
    weights = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}


# --- the step


def distill_by_hand(method: nn.Module, views: list[Tensor]) -> Tensor:
    """One view, one image and one number at a time, in float64: the mean over all."""
    images = [image for view in views for image in view.double()[:, None]]
    targets = [method.teacher.network(image).detach()[0] for image in images]
    center, losses = sum(targets) / len(targets), []
    for image, target in zip(images, targets, strict=True):
        (student,), teacher = method.projector(method.encoder(image)), target - center
        lengths = [sum(x * x for x in vector).sqrt() for vector in (student, teacher)]
        cosine = sum(a * b for a, b in zip(student, teacher, strict=True)) / lengths[0] / lengths[1]
        losses.append(2 - 2 * cosine)
    return sum(losses) / len(losses)


def test_a_step_and_its_gradients_are_an_independent_computation():
    method, batch = build(DISTILLATION, "group"), draw_batch()
    by_hand = copy.deepcopy(method).double()
    out, expected = method.training_step(batch, 0), distill_by_hand(by_hand, batch.views)
    torch.testing.assert_close(out["loss"].double(), expected, atol=1e-5, rtol=1e-5)
    out["loss"].backward(), expected.backward()
    for name, parameter in by_hand.named_parameters():
        ours = method.get_parameter(name).grad
        assert (ours is None) == name.startswith("teacher."), name
        if ours is not None:
            torch.testing.assert_close(ours.double(), parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_the_loss_agrees_with_lightly():
    lightly, method, batch = pytest.importorskip("lightly.loss"), build(DISTILLATION), draw_batch()
    loss, criterion = method.training_step(batch, 0)["loss"], lightly.NegativeCosineSimilarity()
    features, targets = (
        method.encode_views(network, batch.views) for network in (method.encoder, method.teacher)
    )
    targets = targets - targets.mean((0, 1))
    expected = [criterion(method.projector(f), t) for f, t in zip(features, targets, strict=True)]
    torch.testing.assert_close(loss, 2 + 2 * sum(expected) / 3)  # - cos, where ours is 2 - 2 cos


def test_what_all_of_a_teachers_features_share_does_not_matter():
    method, batch = build(DISTILLATION, "group"), draw_batch()
    loss = method.training_step(batch, 0)["loss"]
    method.teacher.network.forward = lambda view: (
        type(method.teacher.network).forward(method.teacher.network, view) + 7
    )
    torch.testing.assert_close(method.training_step(batch, 0)["loss"], loss, atol=1e-4, rtol=1e-4)


def test_a_single_view_is_enough(data_dir, tmp_path):
    case = DISTILLATION._replace(sizes=(16,))
    trainer = train(build(case), tiny(data_dir, case), tmp_path, callbacks=[Features(), Collapse(), KNN()])
    assert trainer.callback_metrics["train/loss"].isfinite()


# --- the teacher


def test_a_teacher_does_not_change_by_one_bit(teacher_ckpt, data_dir, tmp_path):
    """Nor do its batch norms' statistics, whatever mode the method is put into."""
    method = build(OURS, optimizer=sgd, teacher_ckpt=str(teacher_ckpt))
    before = copy.deepcopy(method.encoder.state_dict())
    train(method, tiny(data_dir, OURS), tmp_path, max_epochs=2)
    assert equal_weights(method.teacher.network, read_encoder(teacher_ckpt))
    assert not equal_weights(method.encoder, before)
    method.train()
    assert method.encoder.training and not any(part.training for part in method.teacher.modules())


def test_a_student_learns_its_teachers_features(teacher_ckpt, data_dir, tmp_path):
    method = build(OURS, optimizer=sgd, teacher_ckpt=str(teacher_ckpt))
    trainer = train(method, tiny(data_dir, OURS), tmp_path, max_epochs=1)
    first = trainer.callback_metrics["train/loss"].item()
    again = build(OURS, optimizer=sgd, teacher_ckpt=str(teacher_ckpt))
    trainer = train(again, tiny(data_dir, OURS), tmp_path, max_epochs=20)
    assert trainer.callback_metrics["train/loss"].item() < first / 3


def test_a_run_resumes_without_the_teachers_file(teacher_ckpt, data_dir, tmp_path):
    file = tmp_path / "teacher.ckpt"
    shutil.copy(teacher_ckpt, file)
    whole, resumed = (build(OURS, optimizer=sgd, teacher_ckpt=str(file)) for _ in range(2))
    train(whole, tiny(data_dir, OURS), tmp_path, callbacks=[SaveInMidEpoch()], max_epochs=2)
    file.unlink()
    train(resumed, tiny(data_dir, OURS), tmp_path, resume_from=tmp_path / "middle.ckpt", max_epochs=2)
    assert equal_weights(resumed, whole.state_dict())
    with refused_in_one_line("model.init_args.teacher_ckpt", "no such file"):
        train(build(OURS, teacher_ckpt=str(file)), tiny(data_dir, OURS), tmp_path)


def test_another_teacher_does_not_resume(teacher_ckpt, data_dir, tmp_path):
    method = build(OURS, teacher_ckpt=str(teacher_ckpt))
    train(method, tiny(data_dir, OURS), tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    with refused_in_one_line("does not fit this Distillation", "teacher"):
        train(build(DISTILLATION), tiny(data_dir, OURS), tmp_path, resume_from=tmp_path / "last.ckpt")


def test_a_teacher_that_was_trained_on_nothing_is_refused(data_dir, tmp_path):
    with refused_in_one_line("teacher's weights are random", "teacher_ckpt", "pretrained: true"):
        train(build(OURS), tiny(data_dir, OURS), tmp_path)


def test_a_checkpoint_of_another_network_or_other_data_is_refused(teacher_ckpt, data_dir, tmp_path):
    with refused_in_one_line("its encoder does not fit", "missing|unknown|shape"):
        train(build(DISTILLATION, teacher_ckpt=str(teacher_ckpt)), tiny(data_dir, DISTILLATION), tmp_path)
    with refused_in_one_line(r"trained with mean \[0.5, 0.5, 0.5\]", "set these options"):
        other = tiny(data_dir, OURS._replace(mean=0.4))
        train(build(OURS, teacher_ckpt=str(teacher_ckpt)), other, tmp_path)


def test_a_teacher_without_a_width_is_refused():
    with refused_in_one_line("a teacher needs `dim`", "Identity has none"):
        build(DISTILLATION._replace(teacher=nn.Identity))


def test_texts_are_refused(data_dir, tmp_path):
    case = DISTILLATION._replace(encoder=lambda norm: CharLSTM(16))
    with refused_in_one_line("Distillation needs views of images"):
        train(build(case), Tweets(data_dir=data_dir, batch_size=16), tmp_path)


# --- views as the teacher needs them


def make_pretrained() -> Timm:
    """A network of timm's that says that its weights, which are random here, were loaded."""
    teacher = Timm("resnet18", options={"channels": (8, 8, 8, 8)})
    teacher.pretrained = True
    return teacher


def test_views_are_normalized_as_pretrained_weights_need_them(data_dir, tmp_path):
    case = DISTILLATION._replace(teacher=make_pretrained, mean=0.3, std=0.2)
    method = build(case)
    train(method, tiny(data_dir, case), tmp_path, max_epochs=0)
    pixels = torch.rand(2, 3, 16, 16)
    imagenet = [torch.tensor(numbers).view(3, 1, 1) for numbers in method.teacher.network.normalization]
    assert [round(x, 3) for x in imagenet[0].flatten().tolist()] == [0.485, 0.456, 0.406]
    expected = method.teacher.network((pixels - imagenet[0]) / imagenet[1])
    torch.testing.assert_close(method.teacher((pixels - 0.3) / 0.2), expected, atol=1e-4, rtol=1e-4)


def test_views_stay_as_they_are_for_a_teacher_of_the_same_data(teacher_ckpt, data_dir, tmp_path):
    method = build(OURS, teacher_ckpt=str(teacher_ckpt))
    train(method, tiny(data_dir, OURS), tmp_path, max_epochs=0)
    view = draw_normal(2, 3, 16, 16)
    assert torch.equal(method.teacher(view), method.teacher.network(view))


def test_views_are_resized_for_the_teacher_alone():
    network = ResNet(widths=[8], blocks=[1])
    sizes = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    method = build(DISTILLATION._replace(teacher=lambda: network), teacher_size=24)
    method.training_step(draw_batch(), 0)
    assert sizes == [(24, 24)] * 2  # two of one size at once, and a small one
    flat = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(
        FrozenTeacher(network, 24)(flat), network(torch.full((1, 3, 24, 24), 0.7)), atol=1e-5, rtol=1e-5
    )
