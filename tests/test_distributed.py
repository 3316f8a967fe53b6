"""Two processes with half of each batch train what one process trains with all of it."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
CONFIG = """
trainer: {max_epochs: 2, log_every_n_steps: 1, precision: 32-true, accelerator: cpu}
without: [WandbLogger]
model:
  class_path: tests.two_processes.METHOD
  init_args:
    encoder: {class_path: ssl_modules.networks.resnet.ResNet}
    optimizer: {class_path: torch.optim.SGD, init_args: {momentum: 0.9}}
data:
  class_path: datamodules.digits.Digits
  init_args:
    views: [{scale: [0.4, 1], jitter: 1, brightness: 0.5}, {scale: [0.4, 1], jitter: 1, brightness: 0.5}]
"""
ENCODER = (
    "{class_path: ssl_modules.networks.resnet.ResNet, "
    "init_args: {widths: [8,16], blocks: [1,1], in_channels: 1, norm: group}}"
)


def fit(folder: Path, method: str, *more: str) -> tuple[dict, list[dict]]:
    folder.mkdir()
    (folder / "two.yaml").write_text(CONFIG.replace("METHOD", method))
    command = [
        sys.executable,
        "cli.py",
        "fit",
        "--config",
        str(folder / "two.yaml"),
        "--runs_dir",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "--model.init_args.encoder", ENCODER, *more], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = folder / "two/version_0"
    assert [path.name for path in (folder / "two").iterdir()] == ["version_0"]
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"], rows


def last(rows: list[dict], name: str) -> float:
    return [float(row[name]) for row in rows if row.get(name)][-1]


@pytest.mark.slow
@pytest.mark.parametrize("method, lr", [("SimCLRLayerNorm", "0.1"), ("BarlowTwinsLayerNorm", "0.01")])
def test_two_processes_train_what_one_trains(tmp_path, method, lr):
    options = method, "--model.init_args.optimizer.init_args.lr", lr
    one, rows = fit(tmp_path / "one", *options, "--data.init_args.batch_size", "256")
    two, more = fit(
        tmp_path / "two",
        *options,
        *("--data.init_args.batch_size", "128", "--trainer.devices", "2", "--trainer.strategy", "ddp"),
    )
    for name in one:
        if not name.startswith("means."):  # each process's own sum
            torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=1e-4)
    for name in ("train/loss", "train/online_probe_top1", "val/online_probe_top1", "val/effective_rank"):
        assert last(more, name) == pytest.approx(last(rows, name), abs=2e-3), name
    for name in ("val/knn20_top1", "test/probe_top1", "untrained/test/knn20_top1", "pixels/val/knn20_top1"):
        assert last(more, name) == pytest.approx(last(rows, name), abs=3e-3), name
