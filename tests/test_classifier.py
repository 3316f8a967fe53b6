"""The linear head: four uses of it, what frozen means, and numbers for labels."""

import copy
import csv
import math
import shutil

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpointing.checkpoints import Checkpoints
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.monitor_test_split import MonitorTestSplit
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.protocol import Protocol
from callbacks.loggers.csv import CSVLogger
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from datamodules.images import ImageDataModule
from launch.preflight import summary_line
from ssl_modules.classifier import Classifier
from ssl_modules.losses.supervised import label_losses
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR
from tests.conftest import command_line
from tests.errors import refused_in_one_line
from tests.methods import small_resnet, train

RECIPE = Recipe(scale=(0.5, 1.0), flip=0.5, jitter=0.8, brightness=0.4)


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-3)


def classifier(**options) -> Classifier:
    torch.manual_seed(0)
    return Classifier(**{"encoder": small_resnet("batch"), "optimizer": sgd} | options)


def tiny(data_dir, **options) -> Arrays:
    """88 training images in batches of 16, 8 validation images."""
    return Arrays("tiny", data_dir=data_dir, **{"batch_size": 16} | options)


def state(module) -> dict:
    return copy.deepcopy(module.state_dict())


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Spy(Callback):
    """Keeps step outputs, labels and learning rates of every group, and what validation returned last."""

    def __init__(self):
        self.outputs, self.labels, self.rates, self.validation = [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.outputs.append(outputs)
        self.labels.append(batch[1])

    def on_validation_epoch_start(self, trainer, module):
        self.validation = []

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self.validation.append((outputs["logits"], batch[1]))


@pytest.fixture(scope="module")
def pretrained(data_dir, tmp_path_factory):
    """The encoder's weights after an epoch of SimCLR, and the checkpoint that has them."""
    folder = tmp_path_factory.mktemp("simclr")
    torch.manual_seed(1)
    method = SimCLR(encoder=small_resnet("batch"), hidden_dim=16, out_dim=8, optimizer=sgd)
    path = folder / "last.ckpt"
    train(method, tiny(data_dir, views=[RECIPE] * 2), folder).save_checkpoint(path)
    return state(method.encoder), str(path)


# --- the four uses


@pytest.mark.parametrize("views", [None, [RECIPE]], ids=["cached", "augmented"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_not_one_bit_of_a_frozen_encoder_moves(data_dir, tmp_path, views, precision):
    module = classifier(frozen=True)
    before = state(module.encoder)
    spy, callbacks = Spy(), [Features(), KNN(every_n_epochs=1)]
    data = tiny(data_dir, views=views)
    train(module, data, tmp_path, callbacks=[*callbacks, spy], max_epochs=2, precision=precision)
    assert equal(state(module.encoder), before)
    assert before["stem.1.num_batches_tracked"] == 0  # batch norm's statistics were among what did not move
    assert not module.encoder.training and module.head.training
    losses = [out["loss"].item() for out in spy.outputs]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize("from_ckpt", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_ckpt_and_frozen_make_four_methods(data_dir, tmp_path, pretrained, frozen, from_ckpt):
    weights, path = pretrained
    module = classifier(frozen=frozen, ckpt=path if from_ckpt else None)
    start = weights if from_ckpt else state(module.encoder)
    trainer = train(module, tiny(data_dir), tmp_path)
    assert equal(state(module.encoder), start) == frozen
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    expected = module.head.parameters() if frozen else module.parameters()
    assert trained == {id(p) for p in expected}
    line, name = summary_line(trainer, module), {True: "I linear probing", False: "fine-tuning"}
    protocol = f"{name[frozen]} of {path}" if from_ckpt else "III random" if frozen else "II supervised"
    assert protocol in line and "\n" not in line
    assert ("mean 0, variance 1" in line) == (frozen and not from_ckpt)
    assert ("features of train and val are computed once" in line) == frozen


@pytest.mark.parametrize("frozen", [True, False])
def test_an_encoder_with_somebody_elses_weights_is_called_pretrained(data_dir, tmp_path, frozen):
    module = classifier(frozen=frozen)
    module.encoder.pretrained = True
    trainer = train(module, tiny(data_dir), tmp_path, limit_train_batches=1)
    kind = "I linear probing" if frozen else "fine-tuning"
    line = summary_line(trainer, module)
    assert f"{kind} of pretrained weights" in line and "random" not in line and "scratch" not in line
    assert ("statistics those of pretrained weights" in line) == frozen


def test_a_split_without_a_label_logs_nothing(data_dir, tmp_path):
    data, module = tiny(data_dir), classifier()
    data.prepare_data()
    data.setup("fit")
    data.datasets["val"].labels[:] = -1
    callbacks = [Features(), KNN(), OnlineProbe(), Protocol(draws=1)]
    trainer = train(module, data, tmp_path, limit_train_batches=1, callbacks=callbacks)
    assert not [name for name in trainer.callback_metrics if name.startswith("val/")]
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_the_encoders_own_learning_rate_is_used_and_scheduled(data_dir, tmp_path):
    spy, module = Spy(), classifier(encoder_lr=0.02, warmup_epochs=1)
    trainer = train(module, tiny(data_dir), tmp_path, callbacks=[spy], max_epochs=2)
    groups = trainer.optimizers[0].param_groups
    of_encoder = [
        any(p is q for p in group["params"] for q in module.encoder.parameters()) for group in groups
    ]
    assert of_encoder == [False, False, True, True]
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in module.parameters()}
    factors = [(k + 1) / 5 for k in range(5)] + [(1 + math.cos(math.pi * k / 5)) / 2 for k in range(5)]
    for rates, factor in zip(spy.rates, factors, strict=True):
        assert rates == pytest.approx([0.1 * factor] * 2 + [0.02 * factor] * 2)
    line = summary_line(trainer, module)
    assert "learning rate 0.1" in line and "of the encoder 0.02" in line


class Reseed(Callback):
    """What DDP does before the module's setup."""

    def __init__(self, seed: int):
        self.seed = seed

    def setup(self, trainer, module, stage):
        torch.manual_seed(self.seed)


def test_a_head_sized_by_the_data_draws_the_same_for_any_seed(data_dir, tmp_path):
    heads = []
    for seed in (5, 6):
        module = classifier()
        train(module, tiny(data_dir), tmp_path, callbacks=[Reseed(seed)], limit_train_batches=1)
        heads.append(state(module.head))
    assert equal(*heads)


# --- checkpoints


def test_another_encoder_or_normalization_is_refused_in_one_line(data_dir, tmp_path, pretrained):
    _, path = pretrained
    wider = classifier(encoder=ResNet(widths=[8, 24], blocks=[1, 1]), ckpt=path)
    with refused_in_one_line(r"of another shape \(stages\.1\S*weight"):
        train(wider, tiny(data_dir), tmp_path)
    with refused_in_one_line(r"trained with mean \[0\.5, .* this run has mean \[0\.0"):
        train(classifier(ckpt=path), tiny(data_dir, mean=[0.0], std=[1.0]), tmp_path)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_resumes_bit_for_bit_without_any_other_file(data_dir, tmp_path, pretrained, frozen):
    path = tmp_path / "encoder.ckpt"
    shutil.copy(pretrained[1], path)
    options = {"max_epochs": 2, "enable_checkpointing": True}
    whole = classifier(frozen=frozen, ckpt=str(path))
    train(whole, tiny(data_dir), tmp_path, callbacks=[Checkpoints(keep_every_n_epochs=1)], **options)
    path.unlink()
    resumed, middle = classifier(frozen=frozen, ckpt=str(path)), tmp_path / "checkpoints" / "epoch=1.ckpt"
    train(resumed, tiny(data_dir), tmp_path, resume_from=middle, callbacks=[Checkpoints()], **options)
    assert equal(state(whole), state(resumed))


# --- features computed once


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_cached_features_is_training_on_images(data_dir, tmp_path, monkeypatch, precision):
    heads, encoded = [], []
    for augments in (False, True):
        monkeypatch.setattr(ImageDataModule, "augments", augments)
        module, images = classifier(frozen=True), []
        module.encoder.register_forward_hook(lambda *call, images=images: images.append(len(call[1][0])))
        trainer = train(module, tiny(data_dir), tmp_path, max_epochs=3, precision=precision)
        heads.append((state(module.head), trainer.callback_metrics))
        encoded.append(sum(images))
    (cached, metrics), (direct, others) = heads
    for name in cached:
        torch.testing.assert_close(cached[name], direct[name], atol=1e-6, rtol=1e-5)
    for name in ("train/loss", "train/top1", "val/loss", "val/top1"):
        torch.testing.assert_close(metrics[name], others[name], atol=1e-6, rtol=1e-5)
    assert encoded == [88 + 8, 3 * 80 + 8]


def test_the_cache_ends_with_the_fit(data_dir, tmp_path):
    module, data = classifier(frozen=True), tiny(data_dir)
    trainer = train(module, data, tmp_path)
    assert {split: len(features) for split, features in module.cache.items()} == {"train": 88, "val": 8}
    torch.nn.init.zeros_(module.encoder.stem[0].weight)
    (before,) = trainer.callback_metrics["val/loss"].view(1).clone()
    (after,) = trainer.validate(module, data, verbose=False)
    assert module.cache == {} and after["val/loss"] != pytest.approx(before.item())


@pytest.mark.parametrize(
    "options, augments",
    [
        ({}, False),
        ({"views": [Recipe()]}, False),
        ({"views": [Recipe(flip=0.5)]}, True),
        ({"center_crop": 8}, True),
    ],
)
def test_data_say_whether_training_sees_what_validation_sees(data_dir, options, augments):
    data = tiny(data_dir, **options)
    assert data.augments == augments
    data.setup("fit")
    positions, cpu = np.arange(8), torch.device("cpu")
    ours, theirs = (data.read_batch("train", positions, cpu, augment).views[0] for augment in (True, False))
    assert torch.equal(ours, theirs) != augments


# --- what is logged


def test_logged_accuracy_is_that_of_the_logits(data_dir, tmp_path):
    spy, data = Spy(), tiny(data_dir)
    module = classifier()
    trainer = train(module, data, tmp_path, callbacks=[spy], max_epochs=2)
    right = [(out["logits"].argmax(1) == y).float() for out, y in zip(spy.outputs, spy.labels, strict=True)]
    torch.testing.assert_close(trainer.callback_metrics["train/top1"], torch.cat(right[5:]).mean())
    logits, labels = (torch.cat(column) for column in zip(*spy.validation, strict=True))
    torch.testing.assert_close(
        trainer.callback_metrics["val/top1"], (logits.argmax(1) == labels).float().mean()
    )
    losses, _ = label_losses(logits, labels)
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], losses.mean())
    (test,) = trainer.test(module, data, verbose=False)
    assert 0 <= test["test/top1"] <= 1 and test["test/loss"] > 0
    assert module.monitor == ("val/top1", "max")


def test_watching_test_logs_it_each_epoch_and_changes_nothing(data_dir, tmp_path):
    (tmp_path / "watched").mkdir()
    plain, watched, data = classifier(), classifier(), tiny(data_dir)
    train(plain, data, tmp_path, max_epochs=2)
    logger = CSVLogger(str(tmp_path / "watched"))
    trainer = train(
        watched, tiny(data_dir), tmp_path, callbacks=[MonitorTestSplit()], max_epochs=2, logger=logger
    )
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    (expected,) = trainer.test(watched, data, verbose=False)
    rows = csv.DictReader((tmp_path / "watched" / "metrics.csv").read_text().splitlines())
    logged = [
        (row["epoch"], float(row["test/top1"]), float(row["test/loss"])) for row in rows if row["test/loss"]
    ]
    assert [epoch for epoch, *_ in logged] == ["0", "1", "2"]
    assert logged[1][1:] == logged[2][1:] == pytest.approx((expected["test/top1"], expected["test/loss"]))


# --- numbers as labels


class Numbers(Arrays):
    """The tiny images with two numbers each, the mean of red and of green, some unknown."""

    num_outputs = 2

    def setup(self, stage):
        super().setup(stage)
        self.num_classes = self.class_names = None
        for rows in self.datasets.values():
            means = rows.images[rows.rows].mean((1, 2)) / 255
            rows.labels = torch.tensor(means[:, :2], dtype=torch.float32)
            rows.labels[0], rows.labels[1, 0] = math.nan, math.nan


@pytest.mark.parametrize("target", ["regression", "fractions"])
def test_numbers_are_learned(data_dir, tmp_path, target):
    module = classifier(target=target, optimizer=torch.optim.AdamW, warmup_epochs=1)
    spy, data = Spy(), Numbers("tiny", data_dir=data_dir, batch_size=16)
    trainer = train(module, data, tmp_path, callbacks=[spy], max_epochs=8)
    assert module.head.out_features == 2 and module.monitor == ("val/loss", "min")
    first, last = (
        torch.stack([out["loss"] for out in spy.outputs[rows]]).mean() for rows in (slice(5), slice(-5, None))
    )
    assert last < first
    logits, labels = (torch.cat(column) for column in zip(*spy.validation, strict=True))
    losses, labeled = label_losses(logits, labels, target)
    assert not labeled.all()
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], losses[labeled].mean())
    assert "val/top1" not in trainer.callback_metrics


@pytest.mark.usefixtures("untouched_process")
def test_a_run_on_numbers_passes_every_default_callback(data_dir, tmp_path):
    config = tmp_path / "numbers.yaml"
    config.write_text(f"""
model:
  class_path: ssl_modules.classifier.Classifier
  init_args:
    target: fractions
    encoder: {{class_path: ssl_modules.networks.resnet.ResNet, init_args: {{widths: [8, 16], blocks: [1, 1]}}}}
    optimizer: {{class_path: torch.optim.AdamW}}
data: {{class_path: {__name__}.Numbers, init_args: {{name: tiny, data_dir: {data_dir}, batch_size: 16}}}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
""")
    assert command_line("fit", "--config", config, "--runs_dir", tmp_path, "--without", "[WandbLogger]") == 0
    folder = tmp_path / "numbers" / "version_0"
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    for name in ("train/loss", "val/loss", "test/loss", "val/effective_rank"):
        assert any(row[name] for row in rows), name
    assert not [name for name in rows[0] if "top1" in name]
    assert (folder / "checkpoints" / "best.ckpt").is_file() and (folder / "report.html").is_file()


# --- what cannot be


@pytest.mark.parametrize(
    "options, named",
    [
        ({"frozen": True, "encoder_lr": 0.1}, "encoder_lr is 0.1"),
        ({"label_smoothing": 0.1, "target": "regression"}, "target regression"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, named):
    with refused_in_one_line(named):
        classifier(**options)


@pytest.mark.parametrize(
    "kind, options, named",
    [
        (Numbers, {}, "Numbers has no classes to predict.*target to regression"),
        (Arrays, {"target": "fractions"}, "those of Arrays are classes: set .*target to class"),
        (Arrays, {"num_outputs": 7}, "num_outputs is 7 and the data need 4"),
    ],
)
def test_labels_that_are_not_the_heads_are_refused(data_dir, tmp_path, kind, options, named):
    with refused_in_one_line(named):
        train(classifier(**options), kind("tiny", data_dir=data_dir, batch_size=16), tmp_path)


def test_fractions_outside_of_zero_to_one_are_refused(data_dir, tmp_path):
    data = Numbers("tiny", data_dir=data_dir, batch_size=16)
    data.setup("fit")
    data.datasets["train"].labels[5, 1] = 1.5
    with pytest.raises(MisconfigurationException, match=r"go from 0\.\d+ to 1\.5: set .* to regression"):
        data.setup = lambda stage: None
        train(classifier(target="fractions"), data, tmp_path)
