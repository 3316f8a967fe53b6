"""The house keeps its own rules: rooms are apart, every config runs, every slip in one is told in one line."""

import ast
import csv
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

import cli
from tests.conftest import PICTURES, command_line
from tests.errors import read_only_error

ROOT = Path(cli.__file__).parent
ROOMS = ("ssl_modules", "datamodules", "callbacks", "reports", "model_summary", "common")
FILES = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
CONFIGS = [path.name for path in sorted((ROOT / "configs").glob("*.yaml")) if path.name != "defaults.yaml"]
DIGITS = ROOT / "configs" / "simclr_digits.yaml"
# absolute paths of somebody's machine, and hosts and options of package registries
FOREIGN = re.compile(r"[/](?:work|home|root|Users)/|[p]ythonhosted|[p]ypi\.|[i]ndex-url|[a]rtifactory")


pytestmark = pytest.mark.usefixtures("untouched_process")


# --- rooms


def imported_roots(file: Path) -> set[str]:
    """First parts of the names that a file imports, also inside functions."""
    roots = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            roots.add(node.module.split(".")[0])
    return roots


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_room_imports_no_other_room(file):
    others = {*ROOMS, "launch", "cli", "lightbox", "tests", "benchmarks"} - {file.parts[0], "common"}
    assert not imported_roots(file) & others


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] == "reports"], ids=str)
def test_reports_know_nothing_of_training(file):
    assert not imported_roots(file) & {"torch", "lightning", "torchvision", "timm"}


def test_inits_are_empty():
    assert [str(file) for file in FILES if file.name == "__init__.py" and (ROOT / file).read_text()] == []


def test_an_install_has_every_package():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {*ROOMS, "launch", "configs"}
    assert set(wheel["only-include"]) == folders | {"lightbox"}
    assert wheel["sources"] == {folder: f"lightbox/{folder}" for folder in folders}
    packages = {file.parent for file in FILES if file.name == "__init__.py"}
    assert {file.parent for file in FILES} == packages


def test_environment_yml_leaves_packages_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda, pip = (
        [entry for entry in environment["dependencies"] if isinstance(entry, kind)] for kind in (str, dict)
    )
    assert pip == [{"pip": ["-e .[dev]"]}] and "pip" in conda
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"python{wanted}" in conda


def test_no_file_names_a_machine_or_a_registry():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    matches = []
    for name in filter(None, names):
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            matches += [f"{name}: {match.group()}" for match in FOREIGN.finditer(text)]
    assert matches == []


# --- configs


@pytest.mark.parametrize("name", ["epochs_200", "epochs_800"])
def test_configs_of_full_length_change_network_and_length_of_another(name, small_data, tmp_path):
    options = {
        "--config": ROOT / "configs" / "gpu" / f"{name}.yaml",
        "--data.init_args.data_dir": small_data,
        "--data.init_args.batch_size": 16,
        "--model.init_args.encoder.init_args.widths": "[8, 8]",
        "--model.init_args.encoder.init_args.blocks": "[1, 1]",
        "--trainer.accelerator": "cpu",
        "--trainer.max_steps": 2,
        "--trainer.limit_val_batches": 0,
        "--test_after_fit": "false",
        "--runs_dir": tmp_path,
        "--without": f"[WandbLogger, Protocol, {PICTURES}]",
    }
    given = [str(part) for option in options.items() for part in option]
    assert command_line("fit", "--config", ROOT / "configs" / "simclr_cifar10.yaml", *given) == 0
    saved = yaml.safe_load((tmp_path / "simclr_cifar10" / "version_0" / "config.yaml").read_text())
    assert saved["model"]["init_args"]["encoder"]["init_args"]["preset"] == "resnet18"
    assert (
        saved["model"]["init_args"]["temperature"] == 0.2
        and saved["model"]["init_args"]["warmup_epochs"] == 10
    )
    assert saved["trainer"]["max_epochs"] == int(name.removeprefix("epochs_"))


ONE_ENCODER = [
    config for config in CONFIGS if "PooledResNet" in (ROOT / "configs" / config).read_text("utf-8")
]


@pytest.mark.parametrize("config", ONE_ENCODER)
def test_another_encoder_than_a_configs_has_its_own_defaults(config, capsys):
    named = [
        "--config",
        ROOT / "configs" / config,
        "--model.init_args.encoder",
        "ssl_modules.networks.resnet.ResNet",
    ]
    assert command_line("fit", *named, "--print_config") == 0
    encoder = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["encoder"]["init_args"]
    assert (encoder["preset"], encoder["widths"], encoder["stem"]) == ("wide3", None, None)


@pytest.mark.filterwarnings("ignore:the features have collapsed")  # after two steps on stand-ins, they may
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_runs(config, small_data, tmp_path, capsys):
    options = {
        "--data.init_args.data_dir": small_data,
        "--data.init_args.batch_size": 8,
        "--trainer.accelerator": "cpu",
        "--trainer.max_epochs": 1,
        "--trainer.limit_train_batches": 2,
        "--trainer.limit_val_batches": 1,
        "--runs_dir": tmp_path,
        "--without": f"[WandbLogger, Protocol, {PICTURES}]",
    }
    text = (ROOT / "configs" / config).read_text(encoding="utf-8")
    for name, instead in {"unlabeled": "null", "labels_per_class": "null", "val_size": 0.1}.items():
        if f"    {name}:" in text:
            options[f"--data.init_args.{name}"] = instead  # the stand-in has fewer
    given = [str(part) for option in options.items() for part in option]
    assert command_line("fit", "--config", ROOT / "configs" / config, *given) == 0
    folder = tmp_path / Path(config).stem / "version_0"
    assert f"run folder: {folder}\n" in capsys.readouterr().out
    with open(folder / "metrics.csv", newline="") as file:
        losses = [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 1 and math.isfinite(float(losses[0]))
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["trainer"]["limit_train_batches"] == 2 and saved["experiment"] == Path(config).stem
    assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_cites_its_numbers_and_fits_a_screen(config):
    lines = (ROOT / "configs" / config).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and len(lines) <= 60


def test_the_command_line_alone_makes_a_run_of_the_name_it_gives(tmp_path):
    encoder = "ssl_modules.networks.resnet.ResNet"
    callbacks = "[WandbLogger, Protocol, KNN, Collapse, OnlineProbe, Views, Checkpoints, TQDMProgressBar]"
    args = ["--model", "ssl_modules.simclr.SimCLR", "--model.init_args.encoder", encoder]
    args += ["--model.init_args.encoder.init_args.in_channels", 1, "--data", "datamodules.digits.Digits"]
    args += ["--model.init_args.optimizer", "torch.optim.AdamW"]
    args += ["--data.init_args.views", "[{scale: [0.5, 1.0]}, {scale: [0.5, 1.0]}]", "--experiment", "mine"]
    args += ["--trainer.fast_dev_run", "false", "--trainer.max_steps", 1, "--trainer.accelerator", "cpu"]
    args += ["--trainer.limit_val_batches", 0, "--test_after_fit", "false"]
    assert command_line("fit", *args, "--runs_dir", tmp_path, "--without", callbacks) == 0
    assert [folder.name for folder in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name", ["limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"]
)
@pytest.mark.parametrize("number", ["1", "0.5", "1.0"])
def test_a_number_of_batches_is_not_taken_for_a_share(name, number, capsys):
    assert command_line("fit", "--config", DIGITS, f"--trainer.{name}", number, "--print_config") == 0
    kept = yaml.safe_load(capsys.readouterr().out)["trainer"][name]
    assert repr(kept) == number  # 1 is one batch, 1.0 is all of them


# --- slips


def edited(tmp_path, change):
    """The digits config with a change made to its tree, as a file."""
    tree = yaml.safe_load(DIGITS.read_text())
    change(tree)
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def write_callback(name, **arguments):
    """Have the config name a callback of the room."""
    entry = {"class_path": f"callbacks.{name}", "init_args": arguments}
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
    "callback": (write_callback("evaluation.knn.KNN", every_n_epoch=1), "every_n_epoch", "every_n_epochs"),
}


@pytest.mark.parametrize("slip", UNKNOWN)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest_key(slip, tmp_path, capsys):
    change, wrong, nearest = UNKNOWN[slip]
    path = edited(tmp_path, change)
    error = read_only_error(capsys, "fit", "--config", path, "--runs_dir", tmp_path / "runs")
    assert re.search(rf"['.]{wrong.split('.')[-1]}['. ]", error) and wrong in error, error
    assert str(path) in error and repr(nearest) in error, error
    assert not (tmp_path / "runs").exists()


CLASSES = {  # name: (the change, the class as written, what the line must offer or say)
    "method": (write_class("model", "ssl_modules.simclr.SimCRL"), "simclr.SimCRL", "'SimCLR'"),
    "module": (write_class("model", "ssl_modules.simlcr.SimCLR"), "simlcr.SimCLR", "ssl_modules.simlcr"),
    "encoder": (
        write_class(*ENCODER[:3], "ssl_modules.networks.resnet.ResNett"),
        "resnet.ResNett",
        "'ResNet'",
    ),
    "optimizer": (write_class("model", "init_args", "optimizer", "torch.optim.SDG"), "optim.SDG", "'SGD'"),
    "data": (write_class("data", "datamodules.digits.Digit"), "digits.Digit", "'Digits'"),
    "callback": (write_callback("evaluation.knn.KNNN"), "callbacks.evaluation.knn.KNNN", "'KNN'"),
}


@pytest.mark.parametrize("slip", CLASSES)
def test_a_misspelt_class_is_named_with_the_nearest_one(slip, tmp_path, capsys):
    change, written, offered = CLASSES[slip]
    path = edited(tmp_path, change)
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


# --- what needs no torch


def test_help_and_slips_of_the_verb_come_without_importing_torch(tmp_path):
    program = """
import sys, cli
assert cli.main(["--help"]) == 0 and cli.main([]) == 0
assert cli.main(["fitt"]) == 2
assert cli.main(["report", sys.argv[1]]) == cli.main(["results", sys.argv[1]]) == 2
heavy = {"torch", "lightning", "timm", "wandb", "jsonargparse", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in cli.VERBS:
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict", "inspect"])
def test_help_of_a_verb_lists_its_options_and_ends_with_an_example(verb, capsys):
    assert command_line(verb, "--help") == 0
    out, _ = capsys.readouterr()
    assert "--ckpt_path" in out and "--runs_dir" in out
    assert out.splitlines()[-1].startswith(f"  python cli.py {verb} ")


def test_a_callback_given_twice_replaces_the_unnamed_first():

    def item(path, **options):
        return Namespace(class_path=path, init_args=Namespace(**options))

    from launch.without import drop_by_name

    first, again = (
        item("callbacks.figures.feature_map.FeatureMap", name=None),
        item("callbacks.figures.feature_map.FeatureMap", name=None),
    )
    other = item("callbacks.figures.feature_map.FeatureMap", name="latent_map")
    assert drop_by_name([first, again, other], []) == [again, other]
    loggers = [
        item("a.WandbLogger", name=None, save_dir="."),
        item("a.WandbLogger", name="mine", save_dir="."),
    ]
    assert drop_by_name(loggers, []) == loggers[1:]
    assert drop_by_name([first, other], ["FeatureMap"]) == []
