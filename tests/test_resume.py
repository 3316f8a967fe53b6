"""A run goes on with what it was started with, or says both values; a start that failed leaves no run."""

import shutil

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping

from callbacks.evaluation.features import Features
from callbacks.evaluation.online_probe import OnlineProbe
from launch.resume import Resume, move_place
from tests.conftest import PICTURES
from tests.errors import read_error, refused_in_one_line
from tests.methods import METHODS, build, train
from tests.small_runs import newest_run, read_facts, run_small, train_small, write_small_config
from tests.test_methods import tiny

pytestmark = pytest.mark.usefixtures("untouched_process")
MODEL, OPTIMIZER = "--model.init_args.", "--model.init_args.optimizer.init_args."
CHANGES = {  # option: (values given, what the line says)
    "rate": ((f"{OPTIMIZER}lr", 0.001), ("lr is 0.001", "0.05")),
    "decay": ((f"{OPTIMIZER}weight_decay", 0.5), ("weight_decay is 0.5", "0.0")),
    "momentum": ((f"{OPTIMIZER}momentum", 0.8), ("momentum is 0.8", "0.9")),
    "class": ((f"{MODEL}optimizer", "AdamW"), ("AdamW", "SGD")),
    "schedule": ((f"{MODEL}schedule", "constant"), ("constant", "cosine")),
    "warm-up": ((f"{MODEL}warmup_epochs", 1), ("warmup_epochs is 1.0", "0.0")),
    "layers": ((f"{MODEL}layer_decay", 0.5), ("layer_decay is 0.5", "1.0")),
    "end of decay": (
        (f"{MODEL}weight_decay_end", 0.1, f"{OPTIMIZER}weight_decay", 0.1),
        ("weight_decay", "0.1"),
    ),
    "batch": (("--data.init_args.batch_size", 8), ("batch_size 8", "batch_size 16")),
    "accumulation": (("--trainer.accumulate_grad_batches", 2), ("2 accumulated", "1 accumulated")),
    "share of the data": (("--trainer.limit_train_batches", 2), ("limit_train_batches is 2", "None")),
}
# what the optimizer's state tells
SAYS_STATE = {"rate", "decay", "momentum", "class", "layers", "end of decay"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """(config, runs) of a run of three epochs."""
    return train_small(tmp_path_factory.mktemp("trained"), data_dir)


@pytest.mark.parametrize("change", CHANGES)
def test_another_option_than_the_run_had_is_refused_with_both_values(change, trained, tmp_path, capsys):
    config, runs = trained
    options, says = CHANGES[change]
    ckpt = runs / "small/version_0/checkpoints/last.ckpt"
    args = "fit", "--config", config, "--runs_dir", tmp_path / "runs", "--trainer.max_epochs", 4, *options
    error = read_error(capsys, *args, "--ckpt_path", ckpt)
    assert all(word in error for word in says), error
    assert not list(tmp_path.glob("runs/small/*"))
    if change in SAYS_STATE:  # a checkpoint without its folder
        shutil.copy(ckpt, tmp_path / "alone.ckpt")
        error = read_error(capsys, *args, "--ckpt_path", tmp_path / "alone.ckpt")
        words = says if change not in ("class", "layers", "end of decay") else ("alone.ckpt",)
        assert all(word in error for word in words), error


def test_a_refused_run_stays_as_it_was_and_goes_on_longer(trained, tmp_path, capsys):
    config, runs = trained
    shutil.copytree(runs, tmp_path / "runs")
    run = tmp_path / "runs/small/version_0"
    facts = (run / "provenance.json").read_text().replace('"finished"', '"interrupted"')
    (run / "provenance.json").write_text(facts)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    args = "--ckpt_path", "last", "--trainer.max_epochs", 5
    assert run_small("fit", config, tmp_path / "runs", *args, f"{OPTIMIZER}lr", 0.1) == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert run_small("fit", config, tmp_path / "runs", *args, "--trainer.precision", "bf16-mixed") == 0
    assert newest_run(tmp_path / "runs") == run
    assert read_facts(run)["epochs"] == 5 and read_facts(run)["precision"] == "bf16-mixed"
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "bf16-mixed"


def test_the_same_batch_in_smaller_parts_goes_on_at_its_place():
    progress = {"current": {"ready": 7, "started": 6, "processed": 6, "completed": 6}, "is_last_batch": False}
    checkpoint = {"loops": {"fit_loop": {"epoch_loop.batch_progress": progress}}}
    move_place(checkpoint, (16, 1, 1), (8, 2, 1), "x.ckpt")
    assert progress["current"] == {"ready": 13, "started": 12, "processed": 12, "completed": 12}
    move_place(checkpoint, (8, 2, 1), (8, 1, 2), "x.ckpt")
    assert progress["current"]["processed"] == 6
    with refused_in_one_line("16 examples .batch_size 16, 1 accum", "8 examples"):
        move_place(checkpoint, (8, 1, 1), (16, 1, 1), "x.ckpt")


def test_patience_and_the_probes_rate_are_those_that_are_given(data_dir, tmp_path):
    for patience, rate, resume_from in ((1, 0.1, None), (7, 0.2, tmp_path / "x.ckpt")):
        stop, probe = EarlyStopping("train/loss", patience=patience), OnlineProbe(rate)
        callbacks = [Resume({}), Features(), probe, stop]
        options = {"callbacks": callbacks, "max_epochs": 2 if resume_from else 1}
        trainer = train(build(METHODS[0]), tiny(data_dir, METHODS[0]), tmp_path, resume_from, **options)
        trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=False)
        assert stop.patience == patience and probe.optimizer.param_groups[0]["lr"] == rate


@pytest.mark.parametrize(
    "options", [("--model.init_args.ckpt", "nowhere.ckpt"), ("--model.init_args.optimizer.init_args.lr", -1)]
)
def test_a_start_that_failed_leaves_no_version(options, data_dir, tmp_path):
    config, runs = write_small_config(tmp_path, data_dir), tmp_path / "runs"
    assert run_small("fit", config, runs, *options) == 2
    assert not list(runs.glob("small/*"))
    assert run_small("fit", config, runs, "--trainer.max_epochs", 1) == 0
    assert newest_run(runs).name == "version_0" and read_facts(newest_run(runs))["state"] == "finished"


@pytest.mark.parametrize(
    "callback, says",
    [
        (
            "figures.feature_map.FeatureMap, init_args: {perplexity: 0}",
            "perplexity is 0: give a finite number from 1 up",
        ),
        ("figures.feature_map.FeatureMap, init_args: {points: -5}", "points is -5"),
        ("figures.clustering.Clustering, init_args: {clusters: -2}", "clusters is -2"),
        ("figures.cam.CAM, init_args: {classes: []}", "CAM: classes is []: give at least one"),
        ("figures.cam.CAM, init_args: {classes: [zebra]}", "CAM: no class 'zebra'"),
        ("figures.filters.Filters, init_args: {layers: []}", "Filters: layers is []"),
        ("evaluation.protocol.Protocol, init_args: {draws: 0}", "draws is 0"),
        ("evaluation.knn.KNN, init_args: {every_n_epochs: -1}", "every_n_epochs is -1"),
        (
            "checkpointing.checkpoints.Checkpoints, init_args: {every_n_steps: 0}",
            "every_n_steps is 0",
        ),
    ],
)
def test_an_option_that_the_last_epoch_would_refuse_fails_first(callback, says, data_dir, tmp_path, capsys):
    config = write_small_config(tmp_path, data_dir)
    args = "--runs_dir", tmp_path / "runs", "--trainer.callbacks+", f"{{class_path: callbacks.{callback}}}"
    config.write_text(config.read_text().replace(PICTURES + "]", "]").replace("Protocol, ", ""))
    assert says in read_error(capsys, "fit", "--config", config, *args)
    assert not list(tmp_path.glob("runs/small/*"))


@pytest.mark.parametrize("how, package", [("tsne", "opentsne"), ("umap", "umap-learn")])
def test_a_package_that_is_missing_is_named_at_the_start(
    how, package, data_dir, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("launch.callback_options.find_spec", lambda name: None)
    config = write_small_config(tmp_path, data_dir)
    config.write_text(config.read_text().replace(PICTURES + "]", "]"))
    callback = f"{{class_path: callbacks.figures.feature_map.FeatureMap, init_args: {{how: {how}}}}}"
    error = read_error(capsys, "fit", "--config", config, "--trainer.callbacks+", callback)
    assert f"pip install {package}" in error
