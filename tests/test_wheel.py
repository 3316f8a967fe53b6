"""A wheel has everything in the package `lightbox`, and what is installed from it works in any working directory."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.test_house import FILES, ROOT


def run_python(*args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert build.returncode == 0, build.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site_packages(wheel, tmp_path_factory) -> Path:
    """The unpacked wheel beside somebody else's packages of the rooms' names."""
    folder = tmp_path_factory.mktemp("site") / "site-packages"
    ZipFile(wheel).extractall(folder)
    for name in ("callbacks", "common", "launch"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('somebody else has this name')\n")
    return folder


def test_a_wheel_has_every_file_in_one_package(wheel):
    names = set(ZipFile(wheel).namelist())
    roots = {name.split("/")[0] for name in names}
    assert len(roots) == 2 and roots - {"lightbox"} == {"lightbox-0.1.0.dist-info"}
    files = [*FILES, *(path.relative_to(ROOT) for path in (ROOT / "launch").rglob("*.py")), Path("cli.py")]
    for folder in ("configs", "reports/templates"):
        files += [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {f"lightbox/{file.as_posix()}" for file in files} <= names


def test_a_wheel_names_its_license_authors_and_command(wheel):
    with ZipFile(wheel) as file:
        metadata = file.read("lightbox-0.1.0.dist-info/METADATA").decode()
        commands = file.read("lightbox-0.1.0.dist-info/entry_points.txt").decode()
        assert file.read("lightbox-0.1.0.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert {"License-Expression: MIT", "Author: the Lightbox authors"} <= set(metadata.splitlines())
    assert "lightbox = lightbox.__main__:main" in commands


def test_an_editable_install_adds_the_clone_to_the_path(tmp_path):
    program = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    build = run_python("-c", program, tmp_path, cwd=ROOT)
    assert build.returncode == 0, build.stderr
    (path,) = tmp_path.glob("*.whl")
    with ZipFile(path) as file:
        assert file.read("_lightbox.pth").decode().strip() == str(ROOT)
        assert "lightbox/__init__.py" not in file.namelist()  # the clone's is imported


def test_an_install_answers_with_the_status_of_cli(site_packages, tmp_path):
    usage = run_python("-m", "lightbox", "--help", cwd=tmp_path, PYTHONPATH=str(site_packages))
    assert usage.returncode == 0 and "usage: python cli.py VERB" in usage.stdout, usage.stderr
    typo = run_python("-m", "lightbox", "fitt", cwd=tmp_path, PYTHONPATH=str(site_packages))
    assert typo.returncode == 2 and "did you mean 'fit'" in typo.stderr


@pytest.mark.slow
def test_an_install_finds_configs_classes_and_files_beside(site_packages, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ssl_modules.simclr import SimCLR\n\n\nclass Mine(SimCLR):\n    pass\n"
    )
    # like the console command, which does not have the working directory on its path
    program = "import sys; sys.path.remove(''); from lightbox.__main__ import main; sys.exit(main())"
    arguments = ["fit", "--config", "configs/simclr_digits.yaml", "--model", "mine.Mine", "--print_config"]
    printed = run_python("-c", program, *arguments, cwd=tmp_path, PYTHONPATH=str(site_packages))
    assert printed.returncode == 0, printed.stderr
    config = yaml.safe_load(printed.stdout)
    assert config["model"]["class_path"] == "mine.Mine"
    assert config["data"]["class_path"] == "datamodules.digits.Digits"
    assert config["trainer"]["callbacks"], "configs/defaults.yaml was not read"
    refused = run_python(
        *("-m", "lightbox", "fit", "--config", "configs/simclr_digits.yaml"),
        *("--model.init_args.optimizer", "yaml.YAMLObject"),
        cwd=tmp_path,
        PYTHONPATH=str(site_packages),
    )
    assert refused.returncode == 2 and "a config may not name yaml" in refused.stderr


@pytest.mark.slow
def test_an_install_trains_and_writes_its_report(site_packages, tmp_path):
    options = "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1"
    options += " --trainer.accelerator cpu --without [WandbLogger,Protocol,FeatureMap] --test_after_fit false"
    arguments = ["fit", "--config=configs/simclr_digits.yaml", *options.split()]
    training = run_python("-m", "lightbox", *arguments, cwd=tmp_path, PYTHONPATH=str(site_packages))
    assert training.returncode == 0, training.stderr
    assert (tmp_path / "runs" / "simclr_digits" / "version_0" / "report.html").is_file()
