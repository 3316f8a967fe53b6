"""Runs that belong together: seeds of one config."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from common.renamed import complete_config
from reports.run import Run, dig
from reports.verdict import progress


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
        said = f"{self.first.experiment}/{versions}"
        if self.first.finished:
            return said
        far = progress(self.first)
        return f"{said}, **cut short**" + (f" after {far}" if far else "")

    @property
    def seeds(self) -> str:
        return ", ".join(str(seed(run)) for run in self.runs)


def seed(run: Run) -> object:
    return run.provenance.get("seed", run.config.get("seed_everything", "?"))


def key(run: Run) -> str:
    """What runs share that differ in the seed alone. A resumed run is one that was never stopped; one that starts from
    an encoder shares what that encoder's runs share."""
    config = copy.deepcopy(run.config)
    start = config.pop("ckpt_path", None)
    if start and Path(start).parts[-4:-1] != (*run.path.parts[-2:], "checkpoints"):
        config["ckpt_path"] = start
    before = [complete_config(said.get("config") or {}) for said in run.provenance.get("stages") or []]
    for known in (config, *before):
        known.pop("seed_everything", None)
        if before and isinstance(dig(known, "model", "init_args"), dict):
            known["model"]["init_args"].pop("ckpt", None)
    return json.dumps([run.provenance.get("verb"), config, before], sort_keys=True, default=str)


def groups(runs: list[Run]) -> list[Group]:
    """In the order of their first runs; of several whole runs of a config and a seed the last counts."""
    found: dict[str, dict[object, Run]] = {}
    for run in runs:
        if run.finished and run.config:
            found.setdefault(key(run), {})[seed(run)] = run
        else:
            found[str(run.path)] = {None: run}
    return [Group(list(of_seed.values())) for of_seed in found.values()]
