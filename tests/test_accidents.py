"""A run that is killed in mid-epoch and resumed is the run that was never stopped, bit for bit."""

import csv
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import PICTURES
from tests.test_faults import same

ROOT = Path(__file__).parent.parent
SMALL = [
    *("--config", "configs/simclr_digits.yaml", "--trainer.log_every_n_steps", "1"),
    *("--model.encoder.widths", "[8,16]", "--model.encoder.blocks", "[1,1]", "--trainer.max_epochs", "2"),
    *("--trainer.precision", "32-true", "--test_after_fit", "false"),
    *("--without", f"[WandbLogger, Views, Throughput, Protocol, {PICTURES}]"),
]
DINO = f"""
trainer: {{max_epochs: 2, precision: 32-true, log_every_n_steps: 1}}
without: [WandbLogger, Views, Throughput, Protocol, {PICTURES}]
test_after_fit: false
model:
  class_path: ssl_modules.dino.DINO
  init_args:
    encoder:
      class_path: ssl_modules.networks.resnet.ResNet
      init_args: {{widths: [8, 16], blocks: [1, 1], in_channels: 1}}
    hidden_dim: 16
    prototypes: 12
    momentum: 0.9
    teacher_temperatures: [0.04, 0.07]
    temperature_epochs: 1.5
    weight_decay_end: 0.4
    optimizer: {{class_path: torch.optim.AdamW, init_args: {{lr: 0.01, weight_decay: 0.04}}}}
data:
  class_path: datamodules.digits.Digits
  init_args:
    batch_size: 128
    views: [{{copies: 2, scale: [0.4, 1]}}, {{copies: 3, size: 4, scale: [0.1, 0.4]}}]
"""
SAVE = "{class_path: callbacks.checkpointing.checkpoints.Checkpoints, init_args: {every_n_steps: 3}}"
KILL = "{class_path: tests.faults.KillAt, init_args: {step: 14}}"

pytestmark = pytest.mark.slow


def fit(runs: Path, *more: str, options: list[str] = SMALL) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "cli.py",
        "fit",
        *options,
        "--runs_dir",
        str(runs),
        "--trainer.callbacks+",
        SAVE,
    ]
    return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)


def outcome(runs: Path) -> tuple[dict, list[dict]]:
    """(the last checkpoint, the rows that were logged) of a finished run."""
    (run,) = runs.glob("*/version_0")
    facts = json.loads((run / "provenance.json").read_text())
    assert facts["state"] == "finished" and SAVE in shlex.split(facts["command"])  # a shell can run it
    assert (run / "report.html").is_file()
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True), rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict, list[dict]]:
    """The outcome of the run that was never stopped and read its data without workers."""
    runs = tmp_path_factory.mktemp("whole")
    assert fit(runs).returncode == 0
    return outcome(runs)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_killed_in_mid_epoch_resumes_bit_for_bit(whole, tmp_path, workers):
    options = "--data.init_args.num_workers", workers
    assert fit(tmp_path, *options, "--trainer.callbacks+", KILL).returncode == -signal.SIGKILL
    resumed = fit(tmp_path, *options, "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr
    state, rows = outcome(tmp_path)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):  # the probe is a callback
        assert same(state[part], whole[0][part]), part
    assert rows == whole[1] and "val/knn20_top1" in rows[-1]


def test_a_killed_teacher_resumes_bit_for_bit(tmp_path):
    (tmp_path / "dino.yaml").write_text(DINO)
    options, runs = ["--config", str(tmp_path / "dino.yaml")], [tmp_path / "whole", tmp_path / "killed"]
    assert fit(runs[0], options=options).returncode == 0
    assert fit(runs[1], "--trainer.callbacks+", KILL, options=options).returncode == -signal.SIGKILL
    assert fit(runs[1], "--ckpt_path", "last", options=options).returncode == 0
    (state, rows), (resumed_state, resumed_rows) = map(outcome, runs)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        assert same(resumed_state[part], state[part]), part
    assert resumed_rows == rows and {"train/momentum", "weight_decay"} <= rows[-1].keys()
    weights = state["state_dict"]
    assert weights["centering.center"].abs().max() > 0
    assert not torch.equal(weights["encoder.stem.0.weight"], weights["student.stem.0.weight"])
