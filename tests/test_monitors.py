"""What was not measured in an epoch does not count: for stopping early, for the best, for provenance."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from callbacks.checkpointing.checkpoints import Checkpoints
from launch.monitors import Monitors
from tests.errors import read_error, refused_in_one_line
from tests.methods import METHODS, build, train
from tests.small_runs import newest_run, read_facts, run_small, write_small_config
from tests.test_methods import tiny

CASE = METHODS[0]
OPTIONS = {"max_epochs": 12, "enable_checkpointing": True}


class Measure(Callback):
    """Logs `val/knn20_top1` of some epochs."""

    def __init__(self, values: dict[int, float]):
        self.values = values

    def on_validation_epoch_end(self, trainer, module):
        if trainer.current_epoch in self.values:
            module.log("val/knn20_top1", self.values[trainer.current_epoch])


def fit(data_dir, folder, values, *callbacks, **options):
    callbacks = [Monitors(), Measure(values), *callbacks]
    return train(build(CASE), tiny(data_dir, CASE), folder, callbacks=callbacks, **(OPTIONS | options))


@pytest.mark.parametrize("values, epochs", [({0: 0.5, 4: 0.6, 9: 0.7}, 12), ({0: 0.5, 4: 0.4, 9: 0.7}, 5)])
@pytest.mark.parametrize("options", [{}, {"check_on_train_epoch_end": False}])
def test_patience_is_of_measured_epochs(values, epochs, options, data_dir, tmp_path):
    stop = EarlyStopping("val/knn20_top1", mode="max", patience=1, **options)
    assert fit(data_dir, tmp_path, values, stop).current_epoch == epochs


def test_of_lightnings_checkpoints_only_measured_epochs_are_kept(data_dir, tmp_path):
    kept = ModelCheckpoint(tmp_path, "{epoch}", "val/knn20_top1", mode="max", save_top_k=5)
    fit(data_dir, tmp_path, {0: 0.5, 4: 0.4}, kept, max_epochs=6)
    assert {path.name for path in tmp_path.glob("epoch=*")} == {"epoch=0.ckpt", "epoch=4.ckpt"}


def test_the_best_is_of_a_measured_finite_value(data_dir, tmp_path):
    values = {0: float("nan"), 1: 0.3, 3: float("inf"), 4: 0.2}
    fit(data_dir, tmp_path, values, Checkpoints(), max_epochs=5)
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["callbacks"]["Checkpoints"]["best"] == pytest.approx(0.3) and best["epoch"] == 1


def test_a_metric_that_is_not_logged_is_refused_in_the_first_epoch(data_dir, tmp_path):
    for follower in (
        EarlyStopping("val/knn5_top1"),
        ModelCheckpoint(monitor="val/knn5_top1", every_n_epochs=5),
    ):
        with refused_in_one_line("follows val/knn5_top1", "nearest metric is 'val/knn20_top1'"):
            fit(data_dir, tmp_path, {0: 0.5}, follower)
    with refused_in_one_line("called SPLIT/NAME, as val/loss"):
        train(build(CASE), tiny(data_dir, CASE), tmp_path, callbacks=[Monitors(), EarlyStopping("val_loss")])
    patient = EarlyStopping("val/knn20_top1", mode="max", patience=1, strict=False)
    assert fit(data_dir, tmp_path, {3: 0.5, 4: 0.4}, patient).current_epoch == 5


@pytest.mark.usefixtures("untouched_process")
def test_the_command_line_waits_for_what_is_measured(data_dir, tmp_path, capsys):
    config = write_small_config(tmp_path, data_dir)
    options = "init_args: {{monitor: {}, mode: max, patience: 1}}"
    stop = f"{{{{class_path: lightning.pytorch.callbacks.EarlyStopping, {options}}}}}"
    knn = "{class_path: callbacks.evaluation.knn.KNN, init_args: {every_n_epochs: 0}}"
    more = (
        "--trainer.callbacks+",
        knn,
        "--trainer.callbacks+",
        stop.format("val/knn20_top1"),
        "--trainer.max_epochs",
        4,
    )
    config.write_text(config.read_text().replace("Throughput, ", ""))
    assert run_small("fit", config, tmp_path / "runs", *more) == 0
    facts = read_facts(newest_run(tmp_path / "runs"))
    assert facts["epochs"] == 4 and facts["examples_per_s"] > 0  # it would have stopped after two
    args = (
        "fit",
        "--config",
        config,
        "--runs_dir",
        tmp_path / "slip",
        "--trainer.callbacks+",
        stop.format("val_top1"),
    )
    assert "no metric is called so" in read_error(capsys, *args)
    assert not list((tmp_path / "slip").glob("small/*"))
