"""Curves: the best row is the best, a picture shows what was logged, a resumed run shows all of its history."""

import csv

import numpy as np
import pytest
from matplotlib import pyplot as plt

from callbacks.checkpointing.checkpoints import Checkpoints
from callbacks.evaluation.features import Features
from callbacks.evaluation.monitor_test_split import MonitorTestSplit
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.optimizer_monitor import OptimizerMonitor
from callbacks.figures.curves import Curves, find_best_row, group_metrics, zoom_axis
from callbacks.loggers.csv import CSVLogger
from ssl_modules.schedules import move_by_cosine
from tests.figure_runs import find_case, fit_case, read_figure, write_numbers


def test_the_best_row_is_the_first_of_the_best_finite_values():
    rows = np.array([[0, 9, 0.5], [1, 19, 0.2], [2, 29, np.nan], [3, 39, 0.2], [4, 49, 0.7]])
    assert find_best_row(rows, "min").tolist() == [1, 19, 0.2]
    assert find_best_row(rows, "max").tolist() == [4, 49, 0.7]


def test_panels_hold_what_was_logged_more_than_once():
    once, twice = np.zeros((1, 3)), np.zeros((2, 3))
    names = [
        "train/loss",
        "val/loss",
        "val/top1",
        "val/kl",
        "lr",
        "lr-SGD",
        "train/loss_step",
        "val/feature_std",
    ]
    series = dict.fromkeys(names, twice) | {"test/loss": once, "val/knn20_top1": once}
    series["untrained/val/top1"] = twice
    assert group_metrics(series, ["kl", "top1", "reconstruction"]) == {
        "loss": ["train/loss", "val/loss"],
        "accuracy, %": ["val/top1"],
        "kl": ["val/kl"],
        "learning rate": ["lr", "lr-SGD"],
    }


def test_a_steep_fall_at_the_start_does_not_fill_the_panel():
    steps = np.arange(100.0)
    values = 100 - steps, 2 + 5e3 * 0.5**steps, 0 * steps
    slow, steep, broken = (np.stack([steps, steps, value]).T for value in values)
    broken[:, 2] = np.nan
    figure, axes = plt.subplots(1, 3)
    for axis, rows in zip(axes, (slow, steep, broken), strict=True):
        axis.plot(rows[:, 1], rows[:, 2])
        zoom_axis(axis, rows)
    (low, high), after = axes[1].get_ylim(), steep[10:, 2]
    assert axes[0].get_ylim()[1] > 100 and not axes[0].texts and not axes[2].texts
    assert low < after.min() < after.max() < high < 10
    assert axes[1].texts[0].get_text() == "falls from 5,002"
    plt.close(figure)


def test_series_are_the_columns_of_the_file(tmp_path):
    logger = CSVLogger(str(tmp_path))
    for step, metrics in enumerate([{"a": 1.0}, {"b": 2.0}, {"a": 3.0}]):
        logger.log_metrics({"epoch": step // 2, **metrics}, step=step)
    logger.log_metrics({"epoch": 1, "a": 4.0}, step=2)  # logged again: the last counts
    series = CSVLogger(str(tmp_path)).read_series()
    assert series["a"].tolist() == [[0, 0, 1], [1, 2, 4]] and series["b"].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("moves", [True, False])
def test_optimizer_and_teacher_have_panels_where_they_were_logged(moves, data_dir, tmp_path):
    case = find_case("DINO" if moves else "SimCLR")
    monitor, shared = ([OptimizerMonitor()], {"weight_decay_end": 0.4}) if moves else ([], {})
    options = {"max_epochs": 2, "log_every_n_steps": 1, "shared": shared}
    trainer = fit_case(case, data_dir, tmp_path, *monitor, Curves(), **options)
    _, arrays = read_figure(tmp_path, "curves")
    names = {"train/gradient_norm", "train/momentum", "train/teacher_temperature", "weight_decay"}
    assert names & arrays.keys() == (names if moves else set())
    if moves:
        assert len(arrays["train/gradient_norm"]) == len(arrays["weight_decay"]) == trainer.global_step
        decay = [move_by_cosine(0.01, 0.4, step / trainer.global_step) for step in range(trainer.global_step)]
        np.testing.assert_allclose(arrays["weight_decay"][:, 2], decay, rtol=1e-5)
    series = CSVLogger(str(tmp_path)).read_series()
    titles = list(group_metrics(series, ["momentum", "teacher_temperature"]))
    panels = ["momentum", "teacher temperature", "gradient norm", "weight decay"]
    assert [title for title in titles if title in panels] == (panels if moves else [])


@pytest.mark.parametrize("method", ["SimCLR", "VAE", "Classifier", "Autoencoder"])
def test_every_method_has_curves_with_the_best_iteration(method, data_dir, tmp_path):
    case = find_case(method)
    trainer = fit_case(case, data_dir, tmp_path, OnlineProbe(), MonitorTestSplit(), Curves(), max_epochs=3)
    facts, arrays = read_figure(tmp_path, "curves")
    length = trainer.num_training_batches
    assert facts["iterations_per_epoch"] == length and len(arrays["train/loss"]) == 3
    with open(tmp_path / "metrics.csv", newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    np.testing.assert_allclose(arrays["train/loss"][:, 2], losses)
    name, mode = case.method.monitor if method != "Classifier" else ("val/top1", "max")
    if name in arrays:  # SimCLR's is kNN's, which nobody measured here
        best = (min if mode == "min" else max)(arrays[name][:, 2])
        assert facts["best"]["metric"] == name and facts["best"]["value"] == best
        assert facts["best"]["iteration"] == facts["best"]["epoch"] * length  # at the end of an epoch
    else:
        assert method == "SimCLR" and "best" not in facts
    assert ("test/loss" in arrays) == (method != "SimCLR")
    assert ("val/kl" in arrays) == (method == "VAE")


def test_a_resumed_run_shows_all_of_its_history(data_dir, tmp_path):
    case = find_case("Autoencoder")
    callbacks, last = (Checkpoints(), Curves()), tmp_path / "checkpoints" / "last.ckpt"
    fit_case(case, data_dir, tmp_path, *callbacks, max_epochs=2, enable_checkpointing=True)
    fit_case(case, data_dir, tmp_path, *callbacks, max_epochs=4, enable_checkpointing=True, resume_from=last)
    with np.load(tmp_path / "figures" / "curves" / "epoch=4.npz") as data:
        assert len(data["train/loss"]) == len(data["val/loss"]) == 4


def test_iterations_are_optimizer_steps(data_dir, tmp_path):
    options = {"accumulate_grad_batches": 2, "max_epochs": 2}
    trainer = fit_case(find_case("Autoencoder"), data_dir, tmp_path, Curves(), **options)
    facts, _ = read_figure(tmp_path, "curves")
    assert facts["iterations_per_epoch"] * 2 == trainer.global_step
    assert facts["best"]["epoch"] in (1, 2)


def test_data_without_classes_have_curves(tmp_path):
    fit_case(find_case("VAE"), write_numbers(tmp_path), tmp_path, Curves(), max_epochs=2)
    assert "val/loss" in read_figure(tmp_path, "curves")[1]


def test_without_numbers_there_is_no_picture_and_one_line(data_dir, tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        fit_case(find_case("SimCLR"), data_dir, tmp_path, callbacks=[Features(), Curves()], logger=False)
    told = [record.getMessage() for record in caplog.records if "Curves" in record.getMessage()]
    assert told == ["Curves: no picture, since CSVLogger has no metric with two values"]
