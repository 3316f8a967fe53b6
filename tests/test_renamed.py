"""Configs, commands and kept runs in the names of then are those in the names of today."""

import inspect
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from common.renamed import (
    CLASSES,
    MODULES,
    REMOVED,
    complete_config,
    rename_argument,
    rename_class_paths,
    rename_config,
    rename_figure_keys,
)
from reports.groups import group_runs
from reports.run import load_run
from tests.conftest import command_line

ROOT = Path(__file__).parent.parent
OLD = """
trainer:
  callbacks+:
    - class_path: callbacks.embedding.Map
      init_args: {how: pca, name: latent_map}
    - callbacks.watch_test.WatchTest
model:
  class_path: ssl_modules.barlow_twins.BarlowTwins
  init_args: {centre: false}
"""


@pytest.mark.parametrize("old, new", MODULES.items())
def test_a_new_place_exists_and_the_old_one_does_not(old, new):
    assert not (ROOT / Path(*old.split("."))).with_suffix(".py").exists()
    import_module(new)


def test_class_paths_are_replaced_whole_wherever_they_stand():
    assert rename_class_paths("callbacks.cam.CAM") == "callbacks.figures.cam.CAM"
    assert rename_class_paths("{class_path: callbacks.embedding.Map}").endswith("feature_map.FeatureMap}")
    for other in (
        "my.callbacks.cam.CAM",
        "callbacks.cam",
        "callbacks.figures.cam.CAM",
        "mycallbacks.cam.CAM",
    ):
        assert rename_class_paths(other) == other


def test_an_argument_keeps_its_value():
    assert rename_argument("--model.init_args.centre=false") == "--model.init_args.center=false"
    assert rename_argument("--model.centre") == "--model.center"
    assert rename_argument("--trainer.callbacks+=callbacks.knn.KNN").endswith("=callbacks.evaluation.knn.KNN")
    for other in ("--centre", "centre", "runs/centre=1", "--data.init_args.center_crop=8", "-1.5"):
        assert rename_argument(other) == other


def test_a_config_is_renamed_at_any_depth():
    tree = rename_config(yaml.safe_load(OLD))
    text = yaml.safe_dump(tree)
    assert "callbacks.figures.feature_map.FeatureMap" in text and "MonitorTestSplit" in text
    assert tree["model"]["init_args"] == {"center": False}
    assert rename_config(tree) == tree


@pytest.mark.usefixtures("untouched_process")
def test_the_command_line_and_yaml_take_old_names(tmp_path, capsys):
    (tmp_path / "old.yaml").write_text(OLD)
    configs = ["--config", ROOT / "configs/barlow_twins_cifar10.yaml", "--config", tmp_path / "old.yaml"]
    more = ["--trainer.callbacks+=callbacks.clustering.Clustering", "--without", "[Map]"]
    more += ["--model.centre", "true"]
    assert command_line("fit", *configs, *more, "--print_config") == 0
    config = yaml.safe_load(capsys.readouterr().out)
    paths = [item["class_path"] for item in config["trainer"]["callbacks"]]
    assert paths[-1] == "callbacks.figures.clustering.Clustering"
    assert "callbacks.evaluation.monitor_test_split.MonitorTestSplit" in paths
    assert config["model"]["init_args"]["center"] is True and config["without"] == ["Map"]
    assert CLASSES["Map"] == "FeatureMap"  # `without` is read when the run begins


def read_parameters(path: str) -> set[str]:
    """Names of the arguments of a class, and of its bases."""
    module, _, name = path.rpartition(".")
    bases = getattr(import_module(module), name).__mro__
    return {option for base in bases for option in inspect.signature(base.__init__).parameters}


def test_removed_options_are_gone_from_their_classes():
    for owner, options in REMOVED.items():
        assert not read_parameters(owner) & options.keys()


@pytest.mark.parametrize("owner", REMOVED)
def test_a_removed_option_is_dropped_with_the_value_that_still_holds(owner):
    block = {"class_path": owner, "init_args": {"kept": 1, **REMOVED[owner]}}
    assert rename_config([block]) == [{"class_path": owner, "init_args": {"kept": 1}}]
    assert rename_config(block | {"init_args": REMOVED[owner]}) == {"class_path": owner}
    for option in REMOVED[owner]:
        other = {"class_path": owner, "init_args": {option: "another value"}}
        assert rename_config(other) == other


@pytest.mark.usefixtures("untouched_process")
@pytest.mark.parametrize(
    "option", [(owner, option) for owner in REMOVED for option in REMOVED[owner]], ids=str
)
def test_a_removed_option_with_another_value_is_refused(option, tmp_path, capsys):
    owner, name = option
    meant = REMOVED[owner][name]
    for value, status in ((meant, 0), ("another value", 2)):
        config = {"trainer": {"callbacks+": [{"class_path": owner, "init_args": {name: value}}]}}
        (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
        configs = ["--config", ROOT / "configs/simclr_digits.yaml", "--config", tmp_path / "old.yaml"]
        assert command_line("fit", *configs, "--print_config") == status
    error = capsys.readouterr().err
    assert error.startswith(f"error: unknown key {name!r} (") and len(error.splitlines()) == 1
    assert f"which does what {json.dumps(meant)} meant: leave it out" in error


def test_kept_and_new_runs_of_different_seeds_are_one_row():
    kept = load_run(ROOT / "results/simclr_cifar10/version_0")
    raw = yaml.safe_load((kept.path / "config.yaml").read_text())
    assert "callbacks.knn.KNN" in yaml.safe_dump(raw)
    new = complete_config(raw) | {"seed_everything": 7}
    other = type(kept)(**{**vars(kept), "config": new, "provenance": kept.provenance | {"seed": 7}})
    assert len(group_runs([kept, other])) == 1


def test_data_behind_figures_have_todays_keys():
    old = {"queries": [{"neighbours": [[1, 2, 0.5]]}], "precision_at_10": {"neighbours": 0.5, "pixels": 0.1}}
    new = rename_figure_keys(old)
    assert new["queries"][0]["neighbors"] == [[1, 2, 0.5]] and new["precision_at_10"].keys() == {
        "neighbors",
        "pixels",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("untouched_process")
def test_every_command_of_the_results_is_understood(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = sorted(set(re.findall(r"`python cli\.py (fit [^`]+)`", (ROOT / "RESULTS.md").read_text())))
    assert len(commands) > 30
    for command in commands:
        assert command_line(*shlex.split(command), "--print_config") == 0, command
        assert "callbacks.figures.curves.Curves" in capsys.readouterr().out
