"""Trainings of a few seconds by the command line, of SimCLR on `tiny`: five steps an epoch."""

import json
from pathlib import Path

import pytest

from tests.conftest import PICTURES, command_line
from tests.test_faults import CONFIG


def write_small_config(folder: Path, data_dir: Path) -> Path:
    path = folder / "small.yaml"
    path.write_text(CONFIG.format(data=data_dir, pictures=PICTURES))
    return path


def run_small(verb: str, config: Path, runs: Path, *more: object) -> int:
    """Exit status."""
    return command_line(verb, "--config", config, "--runs_dir", runs, *more)


def train_small(folder: Path, data_dir: Path) -> tuple[Path, Path]:
    """A finished run of three epochs: its config, and the folder of runs. For fixtures of a module."""
    config = write_small_config(folder, data_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cli.py"])
        assert run_small("fit", config, folder / "runs") == 0
    return config, folder / "runs"


def newest_run(runs: Path) -> Path:
    return max((runs / "small").iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def read_facts(run: Path) -> dict:
    return json.loads((run / "provenance.json").read_text())
