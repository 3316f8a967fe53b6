"""`cli.py inspect` without data: every method keeps its promises, and a broken one is named by its line alone."""

import os
import re
import subprocess
import sys

import pytest
import torch

from datamodules.arrays import Arrays
from launch.precision import fast_precision
from launch.promises.promise import Promise
from launch.trainer import Trainer
from ssl_modules.base import SSLModule
from tests.broken_classes import BROKEN, Encoder, Method
from tests.conftest import PICTURES, command_line
from tests.errors import read_error
from tests.test_house import ROOT
from tests.test_methods import tiny
from tests.test_readme import FILES

SEVERAL = "mae_cifar10 dino_cifar10 byol_cifar10 vae_mlp_mnist vae_conv_galaxyzoo next_character_tweets"
NEVER_BROKEN = {"other sizes", "labels"}  # what these say is no fault


def inspect(module: SSLModule, data) -> list[Promise]:
    trainer = Trainer(accelerator="cpu", logger=False, precision="32-true", enable_checkpointing=False)
    trainer.inspect(module, data)
    return trainer.promises


def test_every_method_keeps_its_promises(case, method, data_dir, capsys):
    promises = inspect(method, tiny(data_dir, case))
    assert [promise for promise in promises if promise.kept is False] == []
    promises = {promise.name: promise for promise in promises}
    assert len(promises) >= 32 and promises["gradients"].kept
    assert promises["labels"].kept == (None if case.reads_labels else True)
    assert promises["features"].kept == (True if case.features else None)
    assert "multiply-adds of one example" in capsys.readouterr().out


# --- classes that break one promise


def inspect_classes(encoder: type, method: type, data_dir) -> list[Promise]:
    torch.manual_seed(0)
    module = method(encoder=encoder(), optimizer=torch.optim.SGD)
    return inspect(module, Arrays("tiny", data_dir=data_dir, batch_size=8, std=[0.25]))


@pytest.mark.parametrize("name, encoder, method", BROKEN, ids=[name for name, *_ in BROKEN])
def test_a_broken_promise_is_named_by_its_line_alone(name, encoder, method, data_dir, capsys):
    if name == "bf16" and fast_precision() == "32-true":
        pytest.skip("this processor does not compute in bf16")
    promises = inspect_classes(encoder, method, data_dir)
    assert [promise.name for promise in promises if promise.kept is False] == [name]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  no ")]
    assert line.split(maxsplit=1)[1].startswith(name) and ": " in line


def test_the_table_breaks_every_promise(data_dir):
    names = {promise.name for promise in inspect_classes(Encoder, Method, data_dir)}
    assert names == {name for name, *_ in BROKEN} | NEVER_BROKEN


# --- the command line


@pytest.mark.parametrize("config", SEVERAL.split())
def test_a_config_is_inspected_without_data(config, tmp_path, capsys, untouched_process):
    args = ["--config", ROOT / "configs" / f"{config}.yaml", "--data.init_args.data_dir", tmp_path]
    assert command_line("inspect", *args, "--data.init_args.batch_size", 8) == 0
    out = capsys.readouterr().out
    assert "  yes  gradients" in out and "  no  " not in out and "total" in out
    assert list(tmp_path.iterdir()) == []


def test_images_of_unknown_size_are_one_line(tmp_path, capsys, untouched_process):
    args = ["--config", ROOT / "configs/mae_cifar10.yaml", "--data", "datamodules.arrays.Arrays"]
    args += ["--data.init_args.views", "[{flip: 0.5}]", "--data.init_args.data_dir", tmp_path]
    assert "give their side as data.init_args.size" in read_error(capsys, "inspect", *args)


def run_cli(folder, *args: str) -> subprocess.CompletedProcess:
    """`python cli.py ARGS` in a folder with files of its own."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, str(ROOT / "cli.py"), *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def read_contracts() -> dict[str, str]:
    """The examples of docs/contracts.md, by file name."""
    text = (ROOT / "docs" / "contracts.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.S)
    return {re.match(r"# (\S+)", code)[1]: code for code in blocks}


@pytest.mark.slow
def test_the_examples_of_the_contracts_run(tmp_path):
    for name, code in read_contracts().items():
        (tmp_path / name).write_text(code)
    done = run_cli(tmp_path, "inspect", "--config", "my_teacher.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "yes  on_encoder_loaded  teacher takes the weights" in done.stdout
    short = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--test_after_fit", "false"]
    short += ["--trainer.callbacks+", "my_spread.LossSpread", "--trainer.log_every_n_steps", "1"]
    short += ["--without", f"[{PICTURES}, Protocol, Views]", "--trainer.accelerator", "cpu"]
    done = run_cli(tmp_path, "fit", "--config", "my_teacher.yaml", *short)
    assert done.returncode == 0, done.stderr
    assert "train/loss_spread" in (tmp_path / "runs/my_teacher/version_0/metrics.csv").read_text()


OWN_ENCODER = """
import torch
from torch import nn


class Strips(nn.Module):
    dim, pooled, in_channels = 8, False, 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, view):
        return self.layer(view.mean((1, 2)))
"""


@pytest.mark.slow
def test_files_of_ones_own_are_inspected(tmp_path):
    for name in ("my_method.py", "my_method.yaml", "my_data.py"):
        (tmp_path / name).write_text(FILES[name])
    (tmp_path / "my_encoder.py").write_text(OWN_ENCODER)
    own_files = ["--config", "my_method.yaml", "--model.init_args.encoder", "my_encoder.Strips"]
    for args in (own_files, ["--config", "my_method.yaml", "--data", "my_data.Shapes"]):
        done = run_cli(tmp_path, "inspect", *args)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "method AlignUniform" in done.stdout
    noisy = OWN_ENCODER.replace("return self", "torch.rand(1)\n        return self")
    (tmp_path / "my_encoder.py").write_text(noisy)
    done = run_cli(tmp_path, "inspect", *own_files)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "promises is broken: eval mode" in done.stdout.splitlines()[-1]
