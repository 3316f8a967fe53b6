"""Every slip in a config or on the command line is one line, which names the nearest right word."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import command_line
from tests.errors import read_only_error
from tests.test_house import DIGITS

pytestmark = pytest.mark.usefixtures("untouched_process")


def edited(tmp_path, change):
    """The digits config with a change made to its tree, as a file."""
    tree = yaml.safe_load(DIGITS.read_text())
    change(tree)
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def write_callback(name, **arguments):
    """Add a callback to the config's list."""
    entry = {"class_path": name, "init_args": arguments}
    return lambda tree: tree["trainer"].update({"callbacks+": [entry]})


def write_class(*path):
    """Write the name of a class, the last word, where the path leads to."""

    def change(tree):
        *way, name = path
        for key in way:
            tree = tree[key]
        tree["class_path"] = name

    return change


def rename(*path):
    """Give the key at the end of the path another name, the last one; what is on the way is made."""

    def change(tree):
        *way, old, new = path
        for key in way:
            tree = tree[key] if isinstance(tree, list) else tree.setdefault(key, {})
        tree[new] = tree.pop(old, 1)

    return change


ENCODER = ("model", "init_args", "encoder", "init_args")
UNKNOWN = {  # name: (the change, the key as written, its place, the nearest known key)
    "trainer": (rename("trainer", "max_epochs", "max_epoch"), "trainer.max_epoch", "max_epochs"),
    "model": (rename("model", "init_args", "temperature", "temprature"), "temprature", "temperature"),
    "base class": (
        rename("model", "init_args", "warmup_epochs", "warmup_epoch"),
        "warmup_epoch",
        "warmup_epochs",
    ),
    "encoder": (rename(*ENCODER, "preset", "prest"), "prest", "preset"),
    "optimizer": (
        rename("model", "init_args", "optimizer", "init_args", "momentum", "momentun"),
        "momentun",
        "momentum",
    ),
    "data": (rename("data", "init_args", "batch_size", "batchsize"), "batchsize", "batch_size"),
    "recipe": (rename("data", "init_args", "views", 0, "scale", "scal"), "scal", "scale"),
    "second recipe": (rename("data", "init_args", "views", 1, "jitter", "jiter"), "jiter", "jitter"),
    "top level": (rename("model", "modle"), "modle", "model"),
    "class_path": (rename("model", "class_path", "class_pth"), "class_pth", "class_path"),
    "option of the house": (rename("runs_dir", "run_dir"), "run_dir", "runs_dir"),
    "callback": (
        write_callback("callbacks.evaluation.knn.KNN", every_n_epoch=1),
        "every_n_epoch",
        "every_n_epochs",
    ),
}


@pytest.mark.parametrize("slip", UNKNOWN)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest_key(slip, tmp_path, capsys):
    change, wrong, nearest = UNKNOWN[slip]
    path = edited(tmp_path, change)
    error = read_only_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path / "runs")
    assert re.search(rf"['.]{wrong.split('.')[-1]}['. ]", error) and wrong in error, error
    assert str(path) in error and repr(nearest) in error, error
    assert not (tmp_path / "runs").exists()


CLASSES = {  # name: (where it is written, the class as written, what the line must offer or say)
    "method": (("model",), "ssl_modules.simclr.SimCRL", "'SimCLR'"),
    "module of the method": (("model",), "ssl_modules.simlcr.SimCLR", "ssl_modules.simlcr"),
    "encoder": (ENCODER[:3], "ssl_modules.networks.resnet.ResNett", "'ResNet'"),
    "optimizer": (("model", "init_args", "optimizer"), "torch.optim.SDG", "'SGD'"),
    "data": (("data",), "datamodules.digits.Digit", "'Digits'"),
    "callback": ((), "callbacks.evaluation.knn.KNNN", "'KNN'"),
}


@pytest.mark.parametrize("slip", CLASSES)
def test_a_misspelt_class_is_named_with_the_nearest_one(slip, tmp_path, capsys):
    where, written, offered = CLASSES[slip]
    path = edited(tmp_path, write_class(*where, written) if where else write_callback(written))
    error = read_only_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path / "runs")
    assert written in error and offered in error, error


OPTIONS = {  # an option of a fit: what the line must say
    "--trainer.max_epoch 1": ("max_epoch", "the command line", "'max_epochs'"),
    "--model.init_args.temprature 1": ("temprature", "the command line", "'temperature'"),
    "--model.init_args.encoder.init_args.in_chanels 1": ("in_chanels", "the command line", "'in_channels'"),
    "--data.init_args.colour 1": ("colour", "the command line", "'color'"),
    "--runs_dirs 1": ("runs_dirs", "the command line", "'runs_dir'"),
    "--trainer.max_epochs many": ("trainer.max_epochs", "many"),
    "--model.init_args.temperature warm": ("temperature", "warm"),
    "--model.init_args.encoder.init_args.preset resnet19": ("preset", "resnet19"),
    "--model.init_args.encoder.init_args.widths [8, wide]": ("widths", "wide"),
    "--data.init_args.views [{scale: large}]": ("scale", "large"),
    "--ckpt_path nowhere.ckpt": ("--ckpt_path nowhere.ckpt",),
    "--ckpt_path last": ("--ckpt_path last",),
    "--without [KNM]": ("KNM", "'KNN'"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_slip_in_an_option_is_named(option, tmp_path, capsys):
    error = read_only_error(capsys, "fit", "--config", DIGITS, "--runs_dir", tmp_path, *option.split(" ", 1))
    assert all(words in error for words in OPTIONS[option]), error
    assert not list(tmp_path.iterdir())


VERBS = {  # words after `cli.py`: what the line must say
    "fitt": ("did you mean 'fit'",),
    "zzz": ("validate",),
    **dict.fromkeys(("fit", "validate", "test"), ("model", "data")),
    "fit --config nowhere.yaml": ("nowhere.yaml",),
    "fit --config broken.yaml": ("broken.yaml is not valid YAML",),
    "fit --config=broken.yaml": ("broken.yaml is not valid YAML",),
}


@pytest.mark.parametrize("words", VERBS)
def test_a_slip_in_the_verb_or_the_config_is_named(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("model: {class_path: [\n")
    error = read_only_error(capsys, *words.split())
    assert all(part in error for part in VERBS[words]), error


def test_a_missing_data_set_is_told_in_one_line(tmp_path, capsys):
    def change(tree):
        tree["data"] = {"class_path": "datamodules.arrays.Arrays", "init_args": {"name": "mine"}}
        tree["data"]["init_args"] |= {"data_dir": str(tmp_path), "views": [{}, {}]}

    args = ["--config", edited(tmp_path, change), "--runs_dir", tmp_path, "--without", "[WandbLogger]"]
    assert command_line("fit", *args, "--trainer.accelerator", "cpu") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(tmp_path / "mine" / "train_images.npy") in errors[0]
