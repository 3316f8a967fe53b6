"""Faults: each is told in one line, nothing already written is lost, and the run goes on to what it would have been."""

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data._utils import signal_handling

import launch.run_folder
from callbacks.loggers.csv import CSVLogger
from tests.conftest import PICTURES, command_line, write_random

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untouched_process", "undone")]
LAST = "--ckpt_path", "last"
CONFIG = """
trainer: {{max_epochs: 3, log_every_n_steps: 1, precision: 32-true, accelerator: cpu, enable_progress_bar: false}}
without: [WandbLogger, Views, Protocol, Throughput, {pictures}]
test_after_fit: false
model:
  class_path: ssl_modules.simclr.SimCLR
  init_args:
    hidden_dim: 16
    out_dim: 8
    encoder: {{class_path: ssl_modules.networks.resnet.ResNet, init_args: {{widths: [8, 16], blocks: [1, 1]}}}}
    optimizer: {{class_path: torch.optim.SGD, init_args: {{lr: 0.05, momentum: 0.9}}}}
data:
  class_path: datamodules.arrays.Arrays
  init_args:
    name: tiny
    data_dir: {data}
    batch_size: 16
    views: [{{scale: [0.5, 1], flip: 0.5}}, {{scale: [0.5, 1]}}]
"""  # 5 steps an epoch


@pytest.fixture
def undone(monkeypatch):
    """What faults do to this process."""
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(launch.run_folder, "datetime", launch.run_folder.datetime)
    # torch watches its workers by a handler that it sets once a process, and Lightning takes away after each fit
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # started in the background, Ctrl-C is ignored
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    write_random(folder / "data" / "tiny")
    (folder / "small.yaml").write_text(CONFIG.format(data=folder / "data", pictures=PICTURES))
    return folder / "small.yaml"


def fit(config: Path, runs: Path, *more: str, fault: str = "") -> int:
    """Exit status of a run of 15 steps that saves every second one; the fault happens in step 8."""
    extra = [f"{{class_path: tests.faults.{fault}, init_args: {{step: 8}}}}"] if fault else []
    extra += ["{class_path: callbacks.checkpointing.checkpoints.Checkpoints, init_args: {every_n_steps: 2}}"]
    given = [part for callback in extra for part in ("--trainer.callbacks+", callback)]
    return command_line("fit", "--config", config, "--runs_dir", runs, *given, *more)


def outcome(run: Path) -> tuple[dict, dict]:
    """(what the last checkpoint holds, what was logged) of a run that is finished."""
    assert json.loads((run / "provenance.json").read_text())["state"] == "finished"
    assert (run / "report.html").is_file() and not list(run.glob("**/.part-*"))
    logged = CSVLogger(str(run)).read_rows()[1]
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True), logged


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> tuple[dict, dict]:
    """The outcome of the run that nothing happened to."""
    runs = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cli.py"])
        assert fit(config, runs) == 0
    return outcome(runs / "small/version_0")


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def goes_on(config: Path, runs: Path, whole: tuple[dict, dict], *more: str) -> None:
    """To the same weights, optimizer, probe and rows as the run that nothing happened to."""
    assert fit(config, runs, *LAST, *more) == 0
    state, rows = outcome(runs / "small/version_0")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        assert same(state[part], whole[0][part]), part
    assert rows == whole[1]


FAULTS = {  # name: (exit status, what the line says, options of the run)
    "FullDisk": (2, "last.ckpt: File too large: raise the limit", ()),
    "NaNBatch": (2, "the loss was not finite in step 9: training stopped", ()),
    "KillWorker": (2, "a data worker was killed", ("--data.init_args.num_workers", "2")),
    "CutFile": (2, "train_images.npy has 36928 bytes, but had 73856 when the run began", ()),
    "CtrlCTwice": (130, "stopped by Ctrl-C", ()),
    "Terminate": (143, "stopped by SIGTERM", ()),
}


@pytest.mark.filterwarnings("ignore:Encountered `nan`")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line_and_the_run_goes_on(fault, config, whole, tmp_path, capfd):
    status, says, options = FAULTS[fault]
    images = config.parent / "data/tiny/train_images.npy"
    kept = images.read_bytes()
    assert fit(config, tmp_path, *options, fault=fault) == status
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    images.write_bytes(kept)
    err = capfd.readouterr().err
    first, *more = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in first and "Traceback" not in err, err
    assert bool(more) == (fault == "FullDisk")  # the report cannot be written either
    run = tmp_path / "small/version_0"
    assert "last.ckpt" in first or fault == "CutFile", first
    assert {"last.ckpt", "previous.ckpt"} <= {path.name for path in (run / "checkpoints").iterdir()}
    assert not list(run.glob("**/.part-*"))
    assert json.loads((run / "provenance.json").read_text())["state"] in ("failed", "interrupted")
    goes_on(config, tmp_path, whole, *options)


def test_with_half_the_batch_a_run_goes_on_after_memory_ran_out(config, tmp_path, capsys):
    assert fit(config, tmp_path, fault="OutOfMemory") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    half = "--data.init_args.batch_size 8 --trainer.accumulate_grad_batches 2"
    assert "out of memory" in error and half in error and "last.ckpt is kept" in error
    assert fit(config, tmp_path, *LAST, *half.split()) == 0
    state, _ = outcome(tmp_path / "small/version_0")
    assert state["epoch"] == 3 and state["global_step"] >= 15


def test_a_clock_that_goes_backwards_changes_nothing(config, whole, tmp_path):
    assert fit(config, tmp_path, fault="ClockBack") == 0
    state, rows = outcome(tmp_path / "small/version_0")
    assert same(state["state_dict"], whole[0]["state_dict"]) and rows == whole[1]
    provenance = json.loads((tmp_path / "small/version_0/provenance.json").read_text())
    assert provenance["ended"] < provenance["started"] and 0 < provenance["wall_s"] < 600


def test_a_cut_off_checkpoint_is_named_and_the_previous_one_used(config, whole, tmp_path, capsys):
    assert fit(config, tmp_path, fault="Terminate") == 143
    last = tmp_path / "small/version_0/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read: it is damaged or was cut short"):
        goes_on(config, tmp_path, whole)


def test_runs_that_were_moved_go_on_and_are_validated_and_reported(config, whole, tmp_path, capsys):
    assert fit(config, tmp_path / "here", fault="Terminate") == 143
    shutil.move(tmp_path / "here", tmp_path / "there")
    run = tmp_path / "there/small/version_0"
    goes_on(run / "config.yaml", tmp_path / "there", whole, "--without", "[Terminate]")
    shutil.move(run, tmp_path / "mine")
    options = ["--config", tmp_path / "mine/config.yaml"]
    options += ["--ckpt_path", tmp_path / "mine/checkpoints/last.ckpt"]
    assert command_line("validate", *options, "--runs_dir", tmp_path / "again") == 0
    (tmp_path / "mine/report.html").unlink()
    assert command_line("report", tmp_path / "mine") == 0 and (tmp_path / "mine/report.html").is_file()


def test_a_run_folder_that_may_not_be_written_to_is_told(config, whole, tmp_path, capsys):
    assert fit(config, tmp_path, fault="Terminate") == 143
    blocked = tmp_path / "small/version_0/.part-provenance.json"
    blocked.mkdir()  # permissions would not stop root
    assert fit(config, tmp_path, *LAST) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{blocked}: Is a directory" in errors[-1] and "last.ckpt is kept" in errors[-1]
    blocked.rmdir()
    goes_on(config, tmp_path, whole)


@pytest.mark.skipif(not os.path.ismount("/sys"), reason="a folder that refuses root, too")
def test_a_folder_for_runs_that_may_not_be_written_to_is_told(config, capsys):
    assert fit(config, Path("/sys/runs")) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "cannot make the run folder /sys/runs" in error and "give another --runs_dir" in error
