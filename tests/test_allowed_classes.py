"""What comes from others is data: no checkpoint, array, config or download runs code."""

import ast
import os
import tomllib
import urllib.error
from pathlib import Path

import jsonargparse._common
import numpy as np
import pytest
import torch
import torchvision
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import cli
from datamodules.arrays import Arrays
from datamodules.cifar10 import CIFAR10
from datamodules.mnist import MNIST
from datamodules.stl10 import STL10
from launch.allowed_classes import LIBRARIES, is_unrestricted
from ssl_modules.weights import load_encoder
from tests.conftest import command_line
from tests.errors import read_error, refused_in_one_line
from tests.test_readme import FILES

ROOT = Path(cli.__file__).parent
DIGITS = ROOT / "configs" / "simclr_digits.yaml"
ROOMS = [
    "model_summary",
    "benchmarks",
    "callbacks",
    "common",
    "datamodules",
    "launch",
    "reports",
    "ssl_modules",
]
SOURCES = [ROOT / "cli.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]

pytestmark = pytest.mark.usefixtures("untouched_process")


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """What must not be there in the end."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def evil(tmp_path, mark) -> Path:
    """A checkpoint, in a run folder, that wants to run code."""
    path = tmp_path / "runs/simclr_digits/version_0/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {"encoder.a": torch.ones(1)}, "epoch": 0, "evil": Payload(mark)}, path)
    (path.parent.parent / "config.yaml").write_text(DIGITS.read_text())
    return path


# --- what is read


@pytest.mark.parametrize("verb", ["fit", "validate", "predict", "export"])
def test_a_malicious_checkpoint_is_refused_by_every_verb(verb, evil, tmp_path, capsys):
    more = (
        ["--output", tmp_path / "out"] if verb == "export" else ["--config", DIGITS, "--runs_dir", tmp_path]
    )
    assert f"{evil} cannot be read as a checkpoint" in read_error(capsys, verb, "--ckpt_path", evil, *more)


def test_a_malicious_checkpoint_is_not_what_last_goes_on_with(evil, capsys):
    runs = evil.parents[3]
    with pytest.warns(UserWarning, match="cannot be read"):
        error = read_error(capsys, "fit", "--config", DIGITS, "--runs_dir", runs, "--ckpt_path", "last")
    assert "no unfinished run with a checkpoint" in error


def test_no_encoder_is_taken_from_a_malicious_checkpoint(evil):
    with pytest.raises(MisconfigurationException, match=r"last\.ckpt cannot be read as a checkpoint"):
        load_encoder(torch.nn.Identity(), str(evil), {})


@pytest.mark.parametrize("where", ["config", "command line"])
def test_no_config_has_checkpoints_read_as_pickles(where, evil, tmp_path, capsys):
    tree = yaml.safe_load(DIGITS.read_text()) | ({"weights_only": False} if where == "config" else {})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    more = ["--weights_only", "false"] if where == "command line" else []
    args = "--config", tmp_path / "mine.yaml", "--runs_dir", tmp_path, "--ckpt_path", evil, *more
    assert "is never read" in read_error(capsys, "fit", *args)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_malicious_array_is_refused(kind, own_dir, mark):
    path = own_dir / "tiny" / f"train_{kind}.npy"
    np.save(path, np.array([Payload(mark)] * 96, dtype=object), allow_pickle=True)
    with refused_in_one_line() as error:
        Arrays("tiny", data_dir=str(own_dir)).setup("fit")
    assert str(path) in str(error.value)


FORBIDDEN = {
    *("import pickle", "import dill", "import joblib", "import marshal", "import shelve"),
    *("eval", "exec", "os.system", "yaml.unsafe_load", "yaml.full_load", "allow_pickle=True", "shell=True"),
}


def offences(file: Path) -> list[str]:
    """What in a file reads pickles, or runs what it reads."""
    calls = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            call, name = ast.unparse(node), ast.unparse(node.func)
            unsafe = {"torch.load": "weights_only=True", "yaml.load": "SafeLoader"}
            calls += [call] if name in FORBIDDEN or unsafe.get(name, "") not in call else []
        elif isinstance(node, ast.Import | ast.keyword) and ast.unparse(node) in FORBIDDEN:
            calls.append(ast.unparse(node))
    return calls


def test_no_file_reads_pickles_or_runs_what_it_reads(tmp_path):
    assert [(str(file), calls) for file in SOURCES if (calls := offences(file))] == []
    slips = [
        "import pickle",
        "torch.load(a)",
        "torch.load(a, weights_only=False)",
        "load(a, allow_pickle=True)",
    ]
    (tmp_path / "slips.py").write_text(
        "\n".join([*slips, "yaml.load(a)", "torch.load(a, weights_only=True)"])
    )
    assert len(offences(tmp_path / "slips.py")) == 5


# --- what a config names


@pytest.fixture
def stranger(tmp_path, mark, monkeypatch) -> str:
    """A module that can be imported and is nobody's: it runs code when it is."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "stranger.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.syspath_prepend(folder)
    return "stranger.Class"


PLACES = {  # name: keys to where a config names a class
    "method": ("model", "class_path"),
    "encoder": ("model", "init_args", "encoder", "class_path"),
    "optimizer": ("model", "init_args", "optimizer", "class_path"),
    "data": ("data", "class_path"),
    "callback": ("trainer", "callbacks+"),
    "logger": ("trainer", "logger"),
}


def config_with(path: Path, place: str, name: str, **more) -> Path:
    """The digits' config that names a class at a place."""
    *way, last = PLACES[place]
    tree = branch = yaml.safe_load(DIGITS.read_text()) | more
    for key in way:
        branch = branch[key]
    branch[last] = name if last == "class_path" else [{"class_path": name}]
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_class_of_strangers_is_refused_before_it_is_imported(place, stranger, tmp_path, capsys):
    path = config_with(tmp_path / "mine.yaml", place, stranger)
    error = read_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path)
    assert f"may not name {stranger}" in error and "--allow_any_class true" in error


FUNCTIONS = [
    "os.system",
    "torch.os.system",
    "launch.run_folder.subprocess.Popen",
    "torch.hub.load",
    "builtins.exec",
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_way_round_through_a_known_module_is_refused(name, tmp_path, capsys):
    path = config_with(tmp_path / "mine.yaml", "optimizer", name)
    assert "a config may not name" in read_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path)


def test_an_exported_run_names_no_class_of_strangers(stranger, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints/last.ckpt")
    config_with(tmp_path / "config.yaml", "encoder", stranger)
    args = "--ckpt_path", tmp_path / "checkpoints/last.ckpt", "--output", tmp_path / "out"
    assert f"may not name {stranger}" in read_error(capsys, "export", *args)


def test_a_config_cannot_grant_itself_the_right(stranger, tmp_path, capsys):
    path = config_with(tmp_path / "mine.yaml", "encoder", stranger, allow_any_class=True)
    assert f"may not name {stranger}" in read_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path)
    path = config_with(tmp_path / "mine.yaml", "optimizer", "torch.optim.SGD", allow_any_class=True)
    assert "only the command line can" in read_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path)


def test_the_command_line_can_and_hands_it_on_to_no_stored_config(tmp_path, capsys, monkeypatch):
    unasked = {"import_path_verdicts": {}, "import_paths_enforced": False}
    monkeypatch.setattr(
        jsonargparse._common, "parsing_settings", jsonargparse._common.parsing_settings | unasked
    )
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages/strange_optim.py").write_text(
        "from torch.optim import SGD\nclass Mine(SGD): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    path = config_with(tmp_path / "mine.yaml", "optimizer", "strange_optim.Mine")
    args = "fit", "--config", path, "--print_config"
    assert command_line(*args, "--allow_any_class", "true") == 0
    assert "strange_optim.Mine" in capsys.readouterr().out
    assert "may not name strange_optim.Mine" in read_error(capsys, *args)


@pytest.mark.parametrize(
    "args, allowed", [("", False), ("=true", True), (" True", True), (" false", False), ("=false", False)]
)
def test_the_right_is_granted_by_the_word_true_alone(args, allowed):
    assert is_unrestricted(["fit", *f"--allow_any_class{args}".split(), "--x", "true"]) is allowed


def test_the_readmes_examples_in_the_users_folder_need_no_right(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_method.py").write_text(FILES["my_method.py"])
    (tmp_path / "my_method.yaml").write_text(FILES["my_method.yaml"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert command_line("fit", "--config", "my_method.yaml", "--print_config") == 0
    assert "class_path: my_method.AlignUniform" in capsys.readouterr().out


def test_yaml_makes_no_objects(tmp_path, mark, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(DIGITS.read_text() + f"\nexperiment: !!python/object/apply:os.mkdir [{mark}]\n")
    assert "mine.yaml" in read_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path)


def test_libraries_that_configs_may_name_are_dependencies():
    wanted = " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    assert all(f"{library.replace('sklearn', 'scikit-learn')}>=" in wanted for library in LIBRARIES)


# --- what is downloaded


@pytest.mark.parametrize("data_set", [CIFAR10, MNIST, STL10])
def test_a_download_of_another_content_is_refused(data_set, tmp_path, monkeypatch):
    def other(url, path, *args, **more):
        Path(path).write_bytes(b"not what the hash is of")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", other)
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, **more: url)
    with refused_in_one_line("downloading it failed"):
        data_set(data_dir=str(tmp_path)).prepare_data()
    assert not list(tmp_path.rglob("*_images.npy"))


def test_pickles_in_the_download_folder_are_read_by_their_hash_alone(tmp_path, mark, monkeypatch):
    folder = tmp_path / "cifar10/download/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch", "batches.meta"]:
        torch.save(Payload(mark), folder / name, _use_new_zipfile_serialization=False)

    def offline(*args, **more):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", offline)
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, **more: url)
    with pytest.raises(MisconfigurationException, match="downloading it failed"):
        CIFAR10(data_dir=str(tmp_path)).prepare_data()
