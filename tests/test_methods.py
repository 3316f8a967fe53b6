"""What every method promises, one table for all: see METHODS in methods.py."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.epoch_means import EpochMeans
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.optimizer_monitor import OptimizerMonitor
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.tweets import Tweets
from launch.preflight import Preflight
from ssl_modules.optim import find_undecayed
from ssl_modules.rotnet import RotNet
from ssl_modules.schedules import SCHEDULES, warmup_cosine
from tests.errors import refused_in_one_line
from tests.hardware import lstm_computes_in_bf16
from tests.methods import Case, build, train

RECIPE = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4)
RATE = 1e-4  # at which losses that are sums over pixels stay finite, too


def tiny(data_dir, case, batch_size=28, **options):
    """Three training batches an epoch, as many views as the method needs."""
    if case.text:
        return Tweets(data_dir=data_dir, batch_size=batch_size, **options)
    views = [replace(RECIPE, size=size) for size in case.sizes]
    options |= {"views": views, "mean": [case.mean], "std": [case.std]}
    return Arrays("tiny", data_dir=data_dir, batch_size=batch_size, **options)


def sgd(groups):
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, weight_decay=1e-4)


class Spy(Callback):
    """Keeps the learning rate and the step output of every training batch."""

    def __init__(self):
        self.rates, self.outputs = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.outputs.append(outputs)


# --- the step


def test_the_loss_reaches_every_trainable_parameter(method, batch):
    method.training_step(batch, 0)["loss"].backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_loss_never_sees_labels(case, method, batch):
    if case.reads_labels:
        pytest.skip("this method's loss may read labels")
    labels, state, losses = batch.labels, copy.deepcopy(method.state_dict()), []
    for others in (labels, labels.flip(0) + 1, torch.full_like(labels, -1)):
        method.load_state_dict(state)
        torch.manual_seed(0)
        losses.append(method.training_step(batch._replace(labels=others), 0)["loss"])
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


def test_the_step_hands_over_what_callbacks_read(case, method, batch):
    out, images = method.training_step(batch, 0), len(batch.labels)
    assert out["loss"].ndim == 0 and out["loss"].requires_grad and out["loss"].isfinite()
    shapes = {"features": (images, method.encoder.dim), "losses": (images,)}
    assert all(not value.requires_grad and value.ndim == 0 for value in out["metrics"].values())
    for name in out.keys() - {"loss", "metrics", "count"}:
        assert out[name].dtype == torch.float32 and not out[name].requires_grad, name
        assert out[name].isfinite().all(), name
        assert tuple(out[name].shape) == shapes.get(name, tuple(out[name].shape)), name
    assert ("features" in out) == case.features
    if "projections" in out:
        views, count, _ = out["projections"].shape
        # CMC projects one view twice, DINO those that its teacher sees
        assert views >= case.sizes.count(16) and count == images
    if "reconstructions" in out:
        assert out["reconstructions"].shape == out["targets"].shape


def test_features_and_projections_of_the_step_are_those_of_the_views(case, batch):
    if not case.features:
        pytest.skip("its training step has no features")
    method = build(case, norm="group")  # so that no image influences another's features
    out = method.training_step(batch, 0)
    torch.testing.assert_close(out["features"], method.encode(batch.views[0]).detach(), atol=1e-5, rtol=1e-4)


def test_validation_hands_over_features_of_the_one_view(method, batch):
    view = batch.views[0]
    method.eval()
    with torch.no_grad():
        out = method.validation_step(batch._replace(views=[view]), 0)
        assert torch.equal(out["features"], method.encode(view))
    assert out["features"].dtype == torch.float32 and not out["features"].requires_grad


def test_what_is_judged_is_the_encoder(method, batch):
    view = batch.views[0]
    method.eval()
    features = method.encode(view)
    assert torch.equal(features, method.encoder(view))
    assert features.shape == (len(view), method.encoder.dim)


def test_encoding_in_eval_mode_draws_nothing_and_changes_nothing(method, batch):
    view = batch.views[0]
    method.eval()
    state, random = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    first, second = method.encode(view), method.encode(view)
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), random)
    for name, value in method.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_step_is_reproduced_by_the_seed(case, batch):
    outs = []
    for _ in range(2):
        method = build(case)
        torch.manual_seed(3)
        outs.append(method.training_step(batch, 0))
    assert outs[0].keys() == outs[1].keys()
    for name in outs[0].keys() - {"metrics", "count"}:
        assert torch.equal(outs[0][name], outs[1][name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_works_in_half_precision(case, batch, dtype):
    if case.text and (dtype is torch.float16 or not lstm_computes_in_bf16()):
        pytest.skip("this processor has no LSTM in this precision")
    full, half = build(case), build(case)
    torch.manual_seed(3)
    exact = full.training_step(batch, 0)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=dtype):
        out = half.training_step(batch, 0)
    out["loss"].backward()
    torch.testing.assert_close(out["loss"].float(), exact["loss"], atol=0.05, rtol=0.05)
    for name in out.keys() - {"loss", "metrics", "count"}:
        assert out[name].dtype == torch.float32, name
    for name, parameter in half.named_parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), name


def test_a_step_changes_nothing_but_the_statistics_of_batch_norms(method, batch):
    method.training_step(batch, 0)  # without a Trainer, a bank takes its size at the first step
    before = copy.deepcopy(method.state_dict())
    method.training_step(batch, 0)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]) or name.endswith(
            ("running_mean", "running_var", "tracked")
        ), name


def test_forward_is_features_and_projections(case, method, batch):
    if case.method.__name__ not in ("SimCLR", "BarlowTwins"):
        pytest.skip("of SimCLR and Barlow Twins")
    (x1, *_), *_ = batch
    method.eval()
    features, projections = method(x1)
    assert torch.equal(features, method.encode(x1))
    assert torch.equal(projections, method.projector(features)) and projections.shape == (len(x1), 8)


# --- in a Trainer


def test_training_moves_the_encoder_and_gives_finite_losses(case, method, data_dir, tmp_path):
    spy, before = Spy(), copy.deepcopy(method.encoder.state_dict())
    train(method, tiny(data_dir, case), tmp_path, callbacks=[spy], max_epochs=2)
    assert len(spy.outputs) == 6 and all(out["loss"].isfinite() for out in spy.outputs)
    after = method.encoder.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name, _ in method.encoder.named_parameters())


def test_the_same_seed_trains_the_same_weights(case, data_dir, tmp_path):
    weights = []
    for seed in (0, 0, 1):
        method = build(case)
        train(method, tiny(data_dir, case, seed=seed), tmp_path)
        weights.append(torch.cat([p.flatten() for p in method.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_watched_training_is_unwatched_training(case, data_dir, tmp_path):
    ends = []
    for callbacks in ([], [Features(), OnlineProbe(), KNN(every_n_epochs=1), Collapse(), OptimizerMonitor()]):
        method = build(case)
        train(method, tiny(data_dir, case), tmp_path, callbacks=callbacks, max_epochs=2, log_every_n_steps=1)
        ends.append(method.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


class SaveInMidEpoch(Callback):
    """Saves a checkpoint after the fourth step, the first of the second epoch."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/middle.ckpt")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_resumed_training_is_uninterrupted_training(case, data_dir, tmp_path, workers):
    uninterrupted, resumed, data = build(case), build(case), tiny(data_dir, case, num_workers=workers)
    train(uninterrupted, data, tmp_path, callbacks=[SaveInMidEpoch()], max_epochs=2)
    nn.init.zeros_(next(resumed.encoder.parameters()))
    data = tiny(data_dir, case, num_workers=workers)
    train(resumed, data, tmp_path, resume_from=tmp_path / "middle.ckpt", max_epochs=2)
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_holds_plain_types_and_restores_the_features(case, method, batch, data_dir, tmp_path):
    trainer = train(method, tiny(data_dir, case), tmp_path)
    path = tmp_path / "method.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    other = build(case)
    nn.init.zeros_(next(other.encoder.parameters()))
    other.setup("validate")  # the memory format
    other.load_state_dict(saved["state_dict"], strict=True)
    method.eval(), other.eval()
    view = batch.views[0]
    assert torch.equal(method.encode(view), other.encode(view))
    encoder = {
        k.removeprefix("encoder."): v for k, v in saved["state_dict"].items() if k.startswith("encoder.")
    }
    assert encoder.keys() == method.encoder.state_dict().keys()


def test_norms_and_biases_do_not_decay_and_all_is_optimized_once(case, data_dir, tmp_path):
    method = build(case, optimizer=sgd)
    groups = train(method, tiny(data_dir, case), tmp_path).optimizers[0].param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(decay)
    assert decay.keys() == {id(p) for p in method.parameters() if p.requires_grad}
    exempt = find_undecayed(method)
    for module in method.modules():
        norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:  # of a teacher
                continue
            expected = 0.0 if norm or name.startswith("bias") or parameter in exempt else 1e-4
            assert decay[id(parameter)] == expected, (module, name)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_learning_rate_warms_up_and_falls_as_half_a_cosine(case, data_dir, tmp_path, accumulate):
    method, spy = build(case, optimizer=sgd, warmup_epochs=2), Spy()
    data = tiny(data_dir, case, batch_size=14)  # 88 images, or 90 tweets: six batches
    options = {"callbacks": [spy], "max_epochs": 5, "accumulate_grad_batches": accumulate}
    train(method, data, tmp_path, **options)
    steps, warmup = 30 // accumulate, 12 // accumulate
    rising = [RATE * (step + 1) / warmup for step in range(warmup)]
    share = [step / (steps - warmup) for step in range(steps - warmup)]
    falling = [RATE * (1 + math.cos(math.pi * s)) / 2 for s in share]
    assert spy.rates[::accumulate] == pytest.approx(rising + falling)
    assert max(spy.rates) == pytest.approx(RATE)


def test_a_schedule_without_warm_up_starts_at_the_top():
    assert [warmup_cosine(step, 0, 4) for step in (0, 2, 4, 9)] == pytest.approx([1, 0.5, 0, 0])
    assert warmup_cosine(0, 5, 5) == pytest.approx(0.2) and warmup_cosine(4, 5, 5) == 1
    assert warmup_cosine(10**6, 3, math.inf) == 1


def test_the_logged_loss_of_an_epoch_is_the_mean_of_its_steps(case, method, data_dir, tmp_path):
    spy = Spy()
    trainer = train(method, tiny(data_dir, case), tmp_path, callbacks=[spy], max_epochs=2)
    mean = torch.stack([out["loss"].detach() for out in spy.outputs[3:]]).mean()  # of the second epoch
    by_characters = {"rtol": 1e-3, "atol": 0} if case.text else {}  # of which steps have not as many
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], mean, **by_characters)


def test_other_views_than_a_method_needs_are_one_line(case, method, data_dir, tmp_path):
    if case.text:
        pytest.skip("of text there is one view")
    if case.method.__name__ == "Distillation":
        pytest.skip("it takes any views")
    copies = 2 if len(case.sizes) == 1 else 1
    data = Arrays("tiny", data_dir=data_dir, views=[replace(RECIPE, copies=copies)], batch_size=16)
    name = type(method).__name__
    with refused_in_one_line(f"{name} needs ", f"has {copies} view", "16 px", "`copies` and `size`"):
        train(method, data, tmp_path)


class EncodesItsOwnWay(RotNet):
    """Judges what no export would have."""

    def encode(self, view):
        return super().encode(view).relu()


def test_a_method_with_an_encode_of_its_own_is_refused(data_dir, tmp_path):
    case = Case(EncodesItsOwnWay, {})
    method, data, words = build(case), tiny(data_dir, case), ("overrides encode", "model.init_args.encoder")
    with refused_in_one_line(*words):
        train(method, data, tmp_path)
    for verb in ("validate", "test"):
        trainer = Trainer(accelerator="cpu", logger=False, callbacks=[Preflight(), EpochMeans()])
        with refused_in_one_line(*words):
            getattr(trainer, verb)(method, data, verbose=False)


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_is_the_memory_format_of_the_weights(case, data_dir, tmp_path, channels_last):
    method = build(case, channels_last=channels_last)
    train(method, tiny(data_dir, case), tmp_path)
    # a kernel of one channel or one pixel has both formats at once
    kernels = [p for p in method.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) == channels_last for p in kernels)


@pytest.mark.parametrize(
    "name, expected",
    [("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1]), ("step", [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])],
)
def test_other_schedules_are_constant_or_fall_in_two_steps(name, expected):
    assert [SCHEDULES[name](step, 2, 8) for step in range(9)] == pytest.approx(expected)
    assert SCHEDULES[name](10**6, 2, math.inf) == 1


def test_the_schedule_is_an_option_of_every_method(case, data_dir, tmp_path):
    spy = Spy()
    method = build(case, optimizer=sgd, schedule="step")
    train(method, tiny(data_dir, case), tmp_path, callbacks=[spy], max_epochs=2)
    assert spy.rates == pytest.approx([RATE] * 3 + [0.1 * RATE] * 2 + [0.01 * RATE])
