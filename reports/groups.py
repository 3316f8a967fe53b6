"""Runs that belong together: seeds of one config."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from common.renamed import complete_config
from reports.description import format_progress
from reports.run import Run, get_nested


@dataclass
class Group:
    """Runs whose configs differ in the seed alone, a run a seed; a run that was cut short is a group of its own."""

    runs: list[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def name(self) -> str:
        """EXPERIMENT/VERSION, or the experiment and its versions; how far it came where it was cut short."""
        versions = ", ".join(run.version.removeprefix("version_") for run in self.runs)
        name = f"{self.first.experiment}/{versions}"
        if self.first.finished:
            return name
        progress = format_progress(self.first)
        return f"{name}, **cut short**" + (f" after {progress}" if progress else "")

    @property
    def seeds(self) -> str:
        return ", ".join(str(read_seed(run)) for run in self.runs)


def read_seed(run: Run) -> object:
    return run.provenance.get("seed", run.config.get("seed_everything", "?"))


def config_key(run: Run) -> str:
    """What runs share that differ in the seed alone.

    A resumed run is one that was never stopped; one that starts from an encoder shares what that encoder's runs share.
    """
    config = copy.deepcopy(run.config)
    start = config.pop("ckpt_path", None)
    if start and Path(start).parts[-4:-1] != (*run.path.parts[-2:], "checkpoints"):
        config["ckpt_path"] = start
    stages = [complete_config(stage.get("config") or {}) for stage in run.provenance.get("stages") or []]
    for stage in (config, *stages):
        stage.pop("seed_everything", None)
        if stages and isinstance(get_nested(stage, "model", "init_args"), dict):
            stage["model"]["init_args"].pop("ckpt", None)
    return json.dumps([run.provenance.get("verb"), config, stages], sort_keys=True, default=str)


def group_runs(runs: list[Run]) -> list[Group]:
    """Groups in the order of their first runs; of several finished runs of a config and a seed the last counts."""
    groups: dict[str, dict[object, Run]] = {}
    for run in runs:
        if run.finished and run.config:
            groups.setdefault(config_key(run), {})[read_seed(run)] = run
        else:
            groups[str(run.path)] = {None: run}
    return [Group(list(by_seed.values())) for by_seed in groups.values()]
