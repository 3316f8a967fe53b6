"""Every command in the README runs, and so do its examples."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PICTURES
from tests.folders import write_folders
from tests.tweets import write_tweets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FILES = {
    re.match(r"# (\S+)", code)[1]: code for code in re.findall(r"```(?:python|yaml)\n(.*?)```", README, re.S)
}
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines() if line
]
SHORT = "--trainer.max_epochs 1 --trainer.limit_train_batches 3 --trainer.limit_val_batches 1 --without "
MEASURED = "python cli.py fit --config configs/simclr_digits.yaml"  # the others go without converged probes


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder to work in, as a user has it: the project's files, the README's examples, a small CIFAR-10."""
    folder = tmp_path_factory.mktemp("project")
    rooms = ["ssl_modules", "datamodules", "callbacks", "common", "reports", "launch", "model_summary"]
    for name in ("cli.py", "configs", *rooms):
        (folder / name).symlink_to(ROOT / name)
    for name, code in FILES.items():
        (folder / name).write_text(code)
    rng = np.random.default_rng(0)
    (folder / "data/cifar10").mkdir(parents=True)
    for split, count in (("train", 1000), ("test", 100)):
        np.save(
            folder / f"data/cifar10/{split}_images.npy", rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        )
        np.save(folder / f"data/cifar10/{split}_labels.npy", np.arange(count) % 10)
    write_tweets(folder / "data/tweets", train=300, unlabeled=300)
    write_folders(folder / "photos", 2)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    environment = os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": str(folder)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_every_command_runs(project):
    ours = [command for command in COMMANDS if command.startswith("python ")]
    assert len(ours) >= 8
    for command in ours:
        if " fit " in command:
            few_gpus = " --print_config" if "--trainer.devices" in command else ""
            last = "--ckpt_path last" in command
            if last:  # there must be something to go on with
                (project / "runs/simclr_digits/version_0/provenance.json").write_text(
                    '{"state": "interrupted"}'
                )
            short = SHORT + f"'[{PICTURES}{'' if command == MEASURED else ', Protocol'}]'"
            command += few_gpus or " " + (short.replace("max_epochs 1", "max_epochs 2") if last else short)
        done = run(command, project)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_examples_are_short():
    names = "my_method.py my_method.yaml my_data.py my_callback.py load_encoder.py"
    assert set(names.split()) == FILES.keys()
    assert all(len(code.splitlines()) < 40 for code in FILES.values())


def test_the_table_of_faults_names_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)", (ROOT / "docs/faults.md").read_text()))
    written = " ".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(named) > 9 and named <= set(re.findall(r"def (test_\w+)", written))


def test_files_and_targets_that_the_readme_names_exist():
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {command.split()[1] for command in COMMANDS if command.startswith("make")} <= targets
