"""Sweep configs for Weights & Biases: what an agent would run does run, with any values it may draw."""

import random
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

import cli
from tests.conftest import PICTURES, command_line, write_random

ROOT = Path(cli.__file__).parent
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("untouched_process")


def drawn(parameter: dict) -> float | str:
    """A value as the server might draw it; both ends of a range are among them."""
    return random.choice(parameter.get("values") or [parameter["min"], parameter["max"]])


def command(sweep: dict) -> list[str]:
    """What `wandb agent` runs, by its own filling in of the template, from the verb on."""
    values = {name: {"value": drawn(parameter)} for name, parameter in sweep["parameters"].items()}
    filled = create_sweep_command_args({"args": values})
    words = create_sweep_command(list(sweep["command"]))
    whole = [part for word in words for part in (filled["args"] if word == "${args}" else [word])]
    assert whole[:3] == ["${env}", "${interpreter}", "${program}"] and sweep["program"] == "cli.py"
    return whole[3:]


SMALL = {
    "--model.encoder.widths": "[8,16]",
    "--data.init_args.batch_size": 8,
    "--trainer.max_epochs": 1,
    "--trainer.limit_train_batches": 2,
    "--trainer.accelerator": "cpu",
    "--without": f"[{PICTURES}, Protocol, WandbLogger]",
}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_agents_command_trains_with_the_values_it_drew(path, tmp_path, monkeypatch):
    sweep = yaml.safe_load(path.read_text())
    random.seed(0)
    words = command(sweep)
    write_random(tmp_path / "cifar10", size=32, classes=[str(k) for k in range(10)])
    places = {"--data.init_args.data_dir": tmp_path, "--runs_dir": tmp_path / "runs"}
    monkeypatch.chdir(ROOT)
    assert command_line(*words, *(part for option in (SMALL | places).items() for part in option)) == 0
    (run,) = (tmp_path / "runs").glob("*/version_0")
    stored = Namespace(yaml.safe_load((run / "config.yaml").read_text()))
    given = dict(word.removeprefix("--").split("=") for word in words[1:])
    for name in sweep["parameters"]:
        value = stored
        for key in name.split("."):
            value = value[key]
        assert str(value) == given[name], name
    assert sweep["metric"]["name"] in (run / "metrics.csv").read_text().splitlines()[0]
