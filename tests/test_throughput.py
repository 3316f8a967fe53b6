"""The rate is of training alone, whatever works in the midst of an epoch: by a clock that the test moves."""

import csv

import pytest
from lightning.pytorch import Callback

from callbacks.checkpointing.checkpoints import Checkpoints
from callbacks.evaluation.features import Features
from callbacks.evaluation.throughput import Throughput
from callbacks.loggers.csv import CSVLogger
from datamodules.base import DataModule
from ssl_modules.rotnet import RotNet
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.test_methods import tiny

CASE, BATCH = find_case("RotNet"), 8  # 87 training images: 10 batches
FETCH, STEP = 0.25, 1.0  # seconds that the clock moves by


class Clock:
    """Seconds that pass only where the test says so."""

    now = 0.0

    def read(self) -> float:
        return self.now

    def pass_before(self, function, seconds: float):
        """The function, which takes so long."""

        def slow(*args, **kwargs):
            self.now += seconds
            return function(*args, **kwargs)

        return slow


class Dawdler(Callback):
    """Takes 1000 s in each hook, from the first batch on."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def dawdle(self, *args, **kwargs) -> None:
        self.clock.now += 1000

    on_train_epoch_start = on_train_batch_start = on_train_batch_end = on_save_checkpoint = dawdle
    on_validation_start = on_validation_batch_end = on_validation_epoch_end = on_validation_end = dawdle


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("callbacks.evaluation.throughput.perf_counter", clock.read)
    monkeypatch.setattr(RotNet, "training_step", clock.pass_before(RotNet.training_step, STEP))
    move = clock.pass_before(DataModule.transfer_batch_to_device, FETCH)
    monkeypatch.setattr(DataModule, "transfer_batch_to_device", move)
    return clock


def read_rates(folder) -> list[tuple[float, float]]:
    """Rate and share of waiting of each epoch."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    return [
        (float(row["train/examples_per_s"]), float(row["train/data_wait"]))
        for row in rows
        if row["train/examples_per_s"]
    ]


OPTIONS = {
    "a validation at the end": {},
    "validations inside": {"val_check_interval": 0.25},
    "validations by steps": {"val_check_interval": 7, "check_val_every_n_epoch": None},
    "none": {"limit_val_batches": 0},
    "accumulation": {"accumulate_grad_batches": 3, "val_check_interval": 0.5},
    "half an epoch": {"limit_train_batches": 0.5, "val_check_interval": 0.5},
    "a validation first": {"num_sanity_val_steps": 2},
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_only_batches_and_steps_count(kind, place, clock, data_dir, tmp_path):
    callbacks = [Features(), Throughput(), Dawdler(clock), Checkpoints(every_n_steps=1)]
    callbacks[1:3] = callbacks[1:3] if place == "after" else callbacks[2:0:-1]
    train(
        build(CASE),
        tiny(data_dir, CASE, BATCH),
        tmp_path,
        callbacks=callbacks,
        logger=CSVLogger(str(tmp_path)),
        max_epochs=2,
        enable_checkpointing=True,
        **OPTIONS[kind],
    )
    assert clock.now > 10_000
    expected = pytest.approx((BATCH / (FETCH + STEP), FETCH / (FETCH + STEP)))
    assert read_rates(tmp_path) == [expected, expected]


def test_a_run_resumed_in_mid_epoch_counts_from_there(clock, data_dir, tmp_path):
    class Stop(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 14:
                clock.now += 50
                raise RuntimeError("power cut")

    def fit(*callbacks, resume_from=None):
        callbacks = [Features(), Throughput(), Dawdler(clock), *callbacks, Checkpoints(every_n_steps=1)]
        options = {"callbacks": callbacks, "logger": CSVLogger(str(tmp_path)), "val_check_interval": 0.25}
        options |= {"enable_checkpointing": True}
        train(build(CASE), tiny(data_dir, CASE, BATCH), tmp_path, resume_from, max_epochs=2, **options)

    with pytest.raises(RuntimeError, match="power cut"):
        fit(Stop())
    fit(resume_from=tmp_path / "checkpoints" / "last.ckpt")
    expected = pytest.approx((BATCH / (FETCH + STEP), FETCH / (FETCH + STEP)))
    assert read_rates(tmp_path) == [expected, expected]


def test_several_fits_of_one_callback_have_one_clock(data_dir, tmp_path):
    throughput = Throughput()
    for _ in range(2):
        trainer = train(build(CASE), tiny(data_dir, CASE), tmp_path, callbacks=[Features(), throughput])
        assert trainer.callbacks.count(throughput.pause) == trainer.callbacks.count(throughput.resume) == 1
        assert trainer.callbacks[0] is throughput.pause and trainer.callbacks[-1] is throughput.resume
