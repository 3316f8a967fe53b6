"""The house keeps its own rules: rooms are apart, every config runs, help comes at once."""

import ast
import csv
import importlib
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace

import cli
from tests.conftest import PICTURES, command_line

ROOT = Path(cli.__file__).parent
ROOMS = ("ssl_modules", "datamodules", "callbacks", "reports", "model_summary", "common")
FILES = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
CONFIGS = [path.name for path in sorted((ROOT / "configs").glob("*.yaml")) if path.name != "defaults.yaml"]
OVERLAYS = sorted(
    path.name for path in (ROOT / "configs" / "gpu").glob("*.yaml") if "epochs_" not in path.name
)
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


def write_teacher(config: str, path: Path) -> Path:
    """A checkpoint of the teacher that a config names."""
    named = yaml.safe_load(config)["model"]["init_args"]["teacher"]
    module, _, name = named["class_path"].rpartition(".")
    teacher = getattr(importlib.import_module(module), name)(**named.get("init_args", {}))
    torch.save({"state_dict": {f"encoder.{k}": v for k, v in teacher.state_dict().items()}}, path)
    return path


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
    for name, instead in {"queue_size": 16, "norm_groups": 2}.items():
        if f"    {name}:" in text:
            options[f"--model.init_args.{name}"] = instead
    if "--model.init_args.teacher_ckpt" in text:
        options["--model.init_args.teacher_ckpt"] = write_teacher(text, tmp_path / "teacher.ckpt")
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


def list_leaves(node: object, path: tuple = ()) -> dict[tuple, object]:
    """Every value of nested options, by where it is."""
    if not isinstance(node, dict):
        return {path: node}
    return {k: v for name, child in node.items() for k, v in list_leaves(child, (*path, name)).items()}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:the features have collapsed"
)  # after two steps of small networks, they may
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_has_its_numbers_over_the_config_that_it_names(overlay, small_data, tmp_path):
    text = (ROOT / "configs" / "gpu" / overlay).read_text(encoding="utf-8")
    configs = re.findall(r"--config (\S+)", text)
    assert configs[1:] == [f"configs/gpu/{overlay}"]
    small = {"depth": 1} if "_vit" in overlay else {"widths": "[8, 8]", "blocks": "[1, 1]"}
    options = {
        "--data.init_args.data_dir": small_data,
        "--data.init_args.batch_size": 8,
        "--data.init_args.compile": "false",
        "--data.init_args.resident": "false",
        "--model.init_args.compile": "false",
        **{f"--model.init_args.encoder.init_args.{name}": value for name, value in small.items()},
        "--trainer.accelerator": "cpu",
        "--trainer.max_steps": 2,
        "--trainer.limit_val_batches": 0,
        "--test_after_fit": "false",
        "--runs_dir": tmp_path,
        "--without": f"[WandbLogger, Protocol, {PICTURES}]",
    }
    for name, instead in {"queue_size": 16, "norm_groups": 2, "prototypes": 64}.items():
        if f"    {name}:" in text:
            options[f"--model.init_args.{name}"] = instead
    if "--model.init_args.teacher_ckpt" in text:
        options["--model.init_args.teacher_ckpt"] = write_teacher(text, tmp_path / "teacher.ckpt")
    given = [str(part) for config in configs for part in ("--config", ROOT / config)]
    given += [str(part) for option in options.items() for part in option]
    assert command_line("fit", *given) == 0
    saved = yaml.safe_load((tmp_path / Path(configs[0]).stem / "version_0" / "config.yaml").read_text())
    saved, wanted = list_leaves(saved), list_leaves(yaml.safe_load(text))
    views = wanted.pop(("data", "init_args", "views"), [])
    for option in options:
        wanted.pop(tuple(option[2:].split(".")), None)
    assert {path: saved[path] for path in wanted} == wanted
    kept = saved["data", "init_args", "views"] if views else []
    assert [view | wish for view, wish in zip(kept, views, strict=True)] == kept


@pytest.mark.parametrize("overlay", [overlay for overlay in OVERLAYS if "_resnet18" in overlay])
def test_every_overlay_of_a_published_run_says_whose_and_what_it_reached(overlay):
    head, _ = (ROOT / "configs" / "gpu" / overlay).read_text(encoding="utf-8").split("\ntrainer:")
    words = " ".join(line.removeprefix("# ") for line in head.splitlines())
    assert "https://" in words and " %" in words and "Not run here" in words and "What differs there" in words


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
