"""Means over an epoch: weighted, of all steps, and those of a resumed epoch are the whole epoch's."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from callbacks.evaluation.epoch_means import WeightedMeans
from callbacks.loggers.csv import CSVLogger
from common.checkpoint import read_checkpoint, upgrade_checkpoint
from tests.conftest import command_line
from tests.methods import METHODS, build, train
from tests.test_methods import tiny

SAVED = Path(__file__).parent / "files" / "saved_before_epoch_means"


class OneProcess:
    """In place of a trainer."""

    class strategy:
        @staticmethod
        def reduce(tensor, reduce_op):
            return tensor


class Log(dict):
    """In place of a module."""

    def log(self, name, value):
        self[name] = float(value)


def build_outputs(value, count):
    return {"metrics": {"loss": torch.tensor(value)}, "count": count}


def test_a_mean_is_weighted_by_the_examples_of_a_step():
    means, log = WeightedMeans(), Log()
    for value, count in ((1.0, 3), (5.0, torch.tensor(1.0)), (9.0, 0)):
        means.add_step(build_outputs(value, count))
    means.log_means(OneProcess, log, "val")
    assert log == {"val/loss": 2.0} and not means.sums


def test_nothing_is_logged_of_steps_without_a_label():
    means, log = WeightedMeans(), Log()
    means.add_step(build_outputs(0.0, 0))
    means.log_means(OneProcess, log, "val")
    assert log == {}


def test_nan_makes_the_mean_nan():
    means, log = WeightedMeans(), Log()
    means.add_step(build_outputs(float("nan"), 2))
    means.add_step(build_outputs(1.0, 2))
    means.log_means(OneProcess, log, "train")
    assert log["train/loss"] != log["train/loss"]


class ExtraSteps(Callback):
    """Calls the validation step on training batches, as any callback may."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        with torch.no_grad(), torch.random.fork_rng():
            module.eval()
            module.validation_step(batch._replace(views=batch.views[:1]), batch_idx)
            module.train()


def test_steps_called_by_others_leave_no_trace_in_the_log(case, data_dir, tmp_path):
    logs = []
    for more in ([], [ExtraSteps()]):
        folder = tmp_path / str(len(more))
        logger = CSVLogger(str(folder))
        train(build(case), tiny(data_dir, case), folder, callbacks=more, logger=logger, log_every_n_steps=1)
        logs.append((folder / "metrics.csv").read_text())
    assert logs[0] == logs[1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rate_logged_is_the_one_that_the_step_took(data_dir, tmp_path, accumulate):
    logger = CSVLogger(str(tmp_path))
    method = build(METHODS[0], optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5), warmup_epochs=1)
    data, options = tiny(data_dir, METHODS[0], batch_size=20), {"max_epochs": 2, "log_every_n_steps": 2}
    train(method, data, tmp_path, logger=logger, accumulate_grad_batches=accumulate, **options)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    steps = 4 // accumulate  # of an epoch; every second one is logged, at its end
    rising = [0.5 * (step + 1) / steps for step in range(1, steps, 2)]
    assert rates[: len(rising)] == pytest.approx(rising) and len(rates) == steps


def test_sums_among_the_weights_become_the_callbacks_state():
    checkpoint = read_checkpoint(SAVED / "last.ckpt", "cpu")
    assert any(name.startswith("means.") for name in checkpoint["state_dict"])
    upgrade_checkpoint(checkpoint)
    assert not any(name.startswith("means.") for name in checkpoint["state_dict"])
    total, weight = checkpoint["callbacks"]["EpochMeans"]["sums"]["train/loss"].tolist()
    assert weight == 128 * (checkpoint["global_step"] - 10)  # of the second epoch, so far
    assert 5 < total / weight < 6


@pytest.mark.usefixtures("untouched_process")
def test_a_checkpoint_with_sums_among_its_weights_goes_on(tmp_path):
    options = ["--config", SAVED / "config.yaml", "--runs_dir", tmp_path, "--trainer.accelerator", "cpu"]
    assert command_line("fit", *options, "--ckpt_path", SAVED / "last.ckpt") == 0
    with open(tmp_path / "simclr_digits" / "version_0" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    last = {name: float(text) for row in rows for name, text in row.items() if text}
    # of the run that was never stopped, the mean of the whole second epoch among them
    assert last["train/loss"] == pytest.approx(5.50008, rel=1e-4)
    assert last["train/online_probe_top1"] == pytest.approx(0.2148, abs=0.005)


@pytest.mark.usefixtures("untouched_process")
def test_every_verb_takes_a_checkpoint_with_sums_among_its_weights(tmp_path):
    config, last = ["--config", SAVED / "config.yaml"], SAVED / "last.ckpt"
    here = [*config, "--runs_dir", tmp_path, "--trainer.accelerator", "cpu"]
    assert command_line("test", *here, "--ckpt_path", last) == 0
    assert command_line("predict", *here, "--ckpt_path", last, "--output", tmp_path / "features.npz") == 0
    assert command_line("export", *config, "--ckpt_path", last, "--output", tmp_path / "encoder") == 0
    start = ["--model.init_args.ckpt", last, "--trainer.max_steps", 1, "--trainer.limit_val_batches", 0]
    assert command_line("fit", *here, *start) == 0
    assert (tmp_path / "features.npz").is_file() and (tmp_path / "encoder/card.json").is_file()
