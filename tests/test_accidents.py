"""What the command line does when a run is killed, interrupted, or goes wrong."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import PICTURES

ROOT = Path(__file__).parent.parent
SMALL = [
    *("--model.encoder.widths", "[8,16]", "--model.encoder.blocks", "[1,1]", "--trainer.max_epochs", "3"),
    *("--trainer.precision", "32-true", "--without", f"[WandbLogger, Views, {PICTURES}]"),
]

pytestmark = pytest.mark.slow


def fit(runs: Path, *more: str, fault: str = "") -> subprocess.CompletedProcess:
    accident = (
        ["--trainer.callbacks+", f"{{class_path: tests.faults.{fault}, init_args: {{step: 14}}}}"]
        if fault
        else []
    )
    command = [
        sys.executable,
        "cli.py",
        "fit",
        "--config",
        "configs/simclr_digits.yaml",
        "--runs_dir",
        str(runs),
    ]
    save = [
        "--trainer.callbacks+",
        "{class_path: callbacks.checkpoints.Checkpoints, init_args: {every_n_steps: 3}}",
    ]
    return subprocess.run(
        [*command, *SMALL, *save, *accident, *more], cwd=ROOT, capture_output=True, text=True
    )


def weights(run: Path) -> dict:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_killed_in_mid_epoch_and_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    assert fit(tmp_path / "whole").returncode == 0
    assert fit(tmp_path / "parts", fault="KillAt").returncode == -signal.SIGKILL
    resumed = fit(tmp_path / "parts", "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr
    whole, parts = (tmp_path / name / "simclr_digits/version_0" for name in ("whole", "parts"))
    a, b = weights(whole), weights(parts)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert json.loads((parts / "provenance.json").read_text())["state"] == "finished"
    assert (parts / "report.html").is_file()


def test_interrupted_run_is_complete_and_can_go_on(tmp_path):
    stopped = fit(tmp_path, fault="Interrupt")
    run = tmp_path / "simclr_digits/version_0"
    assert stopped.returncode != 0
    assert "Traceback" not in stopped.stderr
    assert json.loads((run / "provenance.json").read_text())["state"] == "interrupted"
    assert {"config.yaml", "metrics.csv", "report.html"} <= {path.name for path in run.iterdir()}
    assert fit(tmp_path, "--ckpt_path", "last").returncode == 0


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    stopped = fit(tmp_path, fault="NotANumber")
    run = tmp_path / "simclr_digits/version_0"
    assert stopped.returncode == 2
    assert "Traceback" not in stopped.stderr
    assert "not finite in step 15" in stopped.stderr
    assert "last.ckpt (step 12)" in stopped.stderr
    assert all(tensor.isfinite().all() for tensor in weights(run).values())
