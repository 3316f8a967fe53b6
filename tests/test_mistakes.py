"""Mistakes that show only when a config's classes are made, a checkpoint is read or a run is gone on with: one line."""

from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from launch.folders import find_latest_unfinished, lock_run, make_new_version
from launch.lightning_cli import CLI
from tests.conftest import command_line
from tests.errors import read_error
from tests.test_folders import run_with
from tests.test_house import DIGITS, ROOT

pytestmark = pytest.mark.usefixtures("untouched_process")


@pytest.mark.parametrize(
    "config, option, value, message",
    [
        (
            "vgg11_mnist",
            "model.init_args.encoder.init_args.img_size",
            28,
            "VGG11: img_size 28 is no multiple",
        ),
        (
            "finetune_cifar10",
            "model.init_args.frozen",
            "true",
            "Classifier: encoder_lr is 0.05",
        ),
        ("simclr_digits", "model.init_args.encoder.init_args.blocks", "[1, 1]", "numbers of blocks"),
        (
            "simclr_digits",
            "model.init_args.optimizer.init_args.lr",
            -1,
            "model.init_args.optimizer: Invalid lea",
        ),
    ],
)
def test_what_a_class_of_the_config_says_is_the_line(config, option, value, message, tmp_path, capsys):
    path = ROOT / "configs" / f"{config}.yaml"
    args = "--config", path, "--runs_dir", tmp_path, "--without", "[WandbLogger]"
    assert message in read_error(capsys, "fit", *args, f"--{option}", value)


@pytest.mark.parametrize("content", [{"w": torch.ones(1)}, torch.ones(2)])
def test_an_encoder_is_not_taken_from_a_file_that_is_no_checkpoint(content, tmp_path, capsys):
    torch.save(content, tmp_path / "plain.pt")
    args = ["--config", DIGITS, "--runs_dir", tmp_path, "--without", "[WandbLogger]"]
    args += ["--model.init_args.ckpt", tmp_path / "plain.pt"]
    assert "plain.pt is no checkpoint of a run" in read_error(capsys, "fit", *args)


@pytest.mark.parametrize(
    "option, nearest", [("trainer.max_epoch", "max_epochs"), ("model.init_args.temprature", "temperature")]
)
def test_a_slip_beside_a_runs_whole_config_is_named(option, nearest, tmp_path, capsys):
    assert command_line("fit", "--config", DIGITS, "--print_config") == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    error = read_error(capsys, "fit", "--config", tmp_path / "config.yaml", f"--{option}", 1)
    assert repr(option.split(".")[-1]) in error and repr(nearest) in error


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_only_a_training_goes_on_with_the_last_run(verb, tmp_path, capsys):
    run = make_new_version(tmp_path / "simclr_digits")
    run_with(run, "interrupted", last=1)
    before = (run / "provenance.json").read_text()
    args = "--config", DIGITS, "--runs_dir", tmp_path, "--ckpt_path", "last"
    assert f"give {verb} RUN/checkpoints/last.ckpt" in read_error(capsys, verb, *args)
    assert (run / "provenance.json").read_text() == before and len(list(run.parent.iterdir())) == 1


def test_a_run_is_trained_by_one_process(tmp_path, capsys):
    run = make_new_version(tmp_path / "simclr_digits")
    run_with(run, "running", last=1)
    before = (run / "provenance.json").read_text()
    args = "--config", DIGITS, "--runs_dir", tmp_path, "--ckpt_path", "last"
    lock = lock_run(run)
    assert "is being trained by another process" in read_error(capsys, "fit", *args)
    assert (run / "provenance.json").read_text() == before
    lock.release()
    lock_run(run).release()


def test_last_is_of_the_same_seed(tmp_path):
    for seed in (0, 1):
        run = make_new_version(tmp_path)
        run_with(run, "interrupted", last=1)
        (run / "config.yaml").write_text(yaml.safe_dump({"seed_everything": seed}))
    assert [find_latest_unfinished(tmp_path, seed)[0].name for seed in (0, 1)] == ["version_0", "version_1"]
    with pytest.raises(MisconfigurationException, match="seed 2"):
        find_latest_unfinished(tmp_path, 2)


def test_a_job_requeued_before_a_checkpoint_keeps_its_ckpt_path(tmp_path, monkeypatch):
    run = tmp_path / "x" / "version_0"
    given = SimpleNamespace(runs_dir=tmp_path, experiment="x", ckpt_path="a/checkpoints/last.ckpt")
    monkeypatch.setattr("launch.lightning_cli.find_requeued_run", lambda experiment: (run, None))
    assert CLI.choose_run_folder(SimpleNamespace(subcommand="fit"), given) == run
    assert given.ckpt_path == "a/checkpoints/last.ckpt"


def test_a_frozen_network_is_inspected_as_any_other(small_data, capsys):
    tables = []
    for frozen in ("true", "false"):
        args = ["--config", ROOT / "configs" / "probe_cifar10.yaml", "--data.init_args.data_dir", small_data]
        assert command_line("inspect", *args, "--model.init_args.frozen", frozen) == 0
        tables.append(capsys.readouterr().out.partition("\nClassifier on ")[2])
    assert tables[0] == tables[1] and "receptive field" in tables[0]
