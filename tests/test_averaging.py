"""Averages of weights: what is measured is what is kept, whatever the order of callbacks, and a resumed run goes on."""

import copy

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from callbacks.checkpointing.checkpoints import Checkpoints
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from common.checkpoint import read_checkpoint
from launch.averaging import Averaging, order_averaging
from reports.run import load_run
from tests.conftest import PICTURES
from tests.errors import read_error
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.small_runs import newest_run, run_small, write_small_config
from tests.test_methods import tiny

pytestmark = [
    pytest.mark.usefixtures("untouched_process"),
    pytest.mark.filterwarnings(
        "ignore:Be aware that when using `ckpt_path`"
    ),  # of Lightning, also where it is well
]
CASE = find_case("SimCLR")
EMA = "{class_path: lightning.pytorch.callbacks.EMAWeightAveraging, init_args: {decay: 0.9}}"
SWA = EMA.replace("EMAWeight", "StochasticWeight").replace("decay: 0.9", "swa_lrs: 0.01, swa_epoch_start: 1")
PROTOCOL = ("--without", f"[WandbLogger, Views, Throughput, {PICTURES}]", "--test_after_fit", "true")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, data_dir):
    """(config, runs) of a run of three epochs that averages its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cli.py"])
        folder = tmp_path_factory.mktemp("averaged")
        config = write_small_config(folder, data_dir)
        assert run_small("fit", config, folder, *PROTOCOL, "--trainer.callbacks+", EMA) == 0
    return config, folder


def test_a_module_with_a_factory_of_the_command_line_is_copied(case):
    method = build(case)
    twin = copy.deepcopy(method)
    assert twin.optimizer is method.optimizer and type(twin) is type(method)
    for (name, value), other in zip(method.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(value, other) and value is not other, name


def test_what_the_last_epoch_and_the_protocol_measure_is_the_average(averaged):
    _, folder = averaged
    run = load_run(newest_run(folder))
    knn = run.metrics["val/knn20_top1"].value
    assert knn[-1] == knn[-2]  # the monitor's in the last epoch, and the protocol's
    checkpoint = read_checkpoint(run.path / "checkpoints" / "last.ckpt", "cpu")
    assert not all(
        torch.equal(value, checkpoint["current_model_state"][name])
        for name, value in checkpoint["state_dict"].items()
    )


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_what_a_checkpoint_is_judged_by_is_what_its_run_said(averaged, tmp_path, verb):
    config, folder = averaged
    run, split = load_run(newest_run(folder)), "val" if verb == "validate" else "test"
    options = ["--without", f"[WandbLogger, Views, Throughput, {PICTURES}]"]
    ckpt = run.path / "checkpoints" / "last.ckpt"
    assert run_small(verb, config, tmp_path, *options, "--ckpt_path", ckpt) == 0
    again = load_run(newest_run(tmp_path))
    for measure in ("knn20_top1", "probe_top1", "probe5_top1"):
        assert again.last(f"{split}/{measure}") == run.last(f"{split}/{measure}"), measure


def test_the_average_is_the_one_by_hand(data_dir, tmp_path):
    weights = []

    class ByHand(WeightAveraging):  # the mean of all steps
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            weights.append([p.detach().double().clone() for p in module.parameters()])
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    method, averaging = build(CASE), ByHand()
    train(method, tiny(data_dir, CASE), tmp_path, callbacks=[Averaging(averaging), averaging])
    for k, value in enumerate(method.parameters()):
        expected = torch.stack([row[k] for row in weights]).mean(0)
        torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)


def test_the_bank_follows_the_weights_at_one_step(data_dir, tmp_path):
    features, method = Features(), build(CASE)
    trainer = train(method, tiny(data_dir, CASE), tmp_path, callbacks=[features])
    bank = features.encode_bank(trainer, method)
    assert features.encode_bank(trainer, method) is bank
    with torch.no_grad():  # as averaging does, in place and unseen by autograd's counters
        next(method.encoder.parameters()).data.mul_(1.5)
    other = features.encode_bank(trainer, method)
    assert other is not bank and not torch.equal(other.features, bank.features)
    buffer = next(value for name, value in method.encoder.named_buffers() if "running_mean" in name)
    buffer.data.add_(1)
    assert not torch.equal(features.encode_bank(trainer, method).features, other.features)


class StopAt(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 5:
            raise RuntimeError("stopped")


def test_a_resumed_run_is_one_that_was_never_stopped(data_dir, tmp_path):
    def fit(name, *more, resume_from=None):
        method, averaging = build(CASE), EMAWeightAveraging(decay=0.8)
        callbacks = [Averaging(averaging), Features(), Checkpoints(every_n_steps=2), *more, averaging]
        options = {"callbacks": callbacks, "max_epochs": 3, "enable_checkpointing": True}
        train(method, tiny(data_dir, CASE), tmp_path / name, resume_from, **options)
        return method

    whole = fit("whole")
    with pytest.raises(RuntimeError, match="stopped"):
        fit("stopped", StopAt())
    resumed = fit("stopped", resume_from=tmp_path / "stopped" / "checkpoints" / "last.ckpt")
    for (name, value), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_resuming_without_the_callback_is_refused_in_one_line(averaged, tmp_path, capsys):
    config, folder = averaged
    last = newest_run(folder) / "checkpoints" / "last.ckpt"
    args = ["fit", "--config", config, "--runs_dir", tmp_path, "--trainer.max_epochs", 4, "--ckpt_path", last]
    line = read_error(capsys, *args)
    assert "averages its weights" in line and "EMAWeightAveraging" in line and "model.init_args.ckpt" in line


def test_a_classifier_s_head_is_averaged_and_kept(data_dir, tmp_path):
    config = write_small_config(tmp_path, data_dir)
    encoder = "{class_path: ssl_modules.networks.resnet.ResNet, init_args: {widths: [8, 16], blocks: [1, 1]}}"
    text = config.read_text()
    start, end = text.index("model:"), text.index("data:")
    optimizer = "{class_path: torch.optim.SGD, init_args: {lr: 0.05}}"
    config.write_text(
        f"{text[:start]}model:\n  class_path: ssl_modules.classifier.Classifier\n  init_args:\n"
        f"    encoder: {encoder}\n    optimizer: {optimizer}\n{text[end:]}".replace(
            "{scale: [0.5, 1], flip: 0.5}, {scale: [0.5, 1]}", "{flip: 0.5}"
        )
    )
    assert run_small("fit", config, tmp_path, *PROTOCOL, "--trainer.callbacks+", EMA) == 0
    run = load_run(newest_run(tmp_path))
    ckpt = run.path / "checkpoints" / "last.ckpt"
    assert "head.weight" in read_checkpoint(ckpt)["state_dict"]
    assert run_small("test", config, tmp_path / "again", "--ckpt_path", ckpt) == 0
    assert load_run(newest_run(tmp_path / "again")).last("test/top1") == run.last("test/top1")


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_a_stochastic_average_is_what_is_measured(data_dir, tmp_path):
    config = write_small_config(tmp_path, data_dir)
    assert run_small("fit", config, tmp_path, *PROTOCOL, "--trainer.callbacks+", SWA) == 0
    run = load_run(newest_run(tmp_path))
    options = ["--without", f"[WandbLogger, Views, Throughput, {PICTURES}]"]
    options += ["--ckpt_path", run.path / "checkpoints" / "last.ckpt"]
    assert run_small("validate", config, tmp_path / "again", *options) == 0
    again = load_run(newest_run(tmp_path / "again"))
    assert again.last("val/probe_top1") == run.last("val/probe_top1")


def test_those_that_average_have_their_places():
    ema, swa, knn = EMAWeightAveraging(), StochasticWeightAveraging(0.1), KNN()
    first, *others = order_averaging([ema, knn, swa])
    assert others == [swa, knn, ema] and first.averaging is ema
    first, *others = order_averaging([knn])
    assert others == [knn] and first.averaging is None
