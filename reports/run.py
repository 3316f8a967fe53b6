"""A run folder, read: its config, where it came from, its numbers and its pictures."""

import csv
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from common.renamed import complete_config

FILES = ("config.yaml", "provenance.json", "metrics.csv")


class NoRunError(ValueError):
    """The folder holds no run, or a file of it cannot be read; the message says which, in one line."""


class Series(NamedTuple):
    """One column of metrics.csv without its empty cells, in order of steps."""

    epoch: np.ndarray
    step: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a run folder says. Files and keys that a run cut short never wrote are empty or None."""

    path: Path
    experiment: str
    version: str
    config: dict
    provenance: dict
    metrics: dict[str, Series]
    figures: dict[str, list[tuple[int, Path]]]

    def last(self, metric: str) -> float | None:
        """The newest value of a metric; None where there is none or it is not finite."""
        series = self.metrics.get(metric)
        return float(series.value[-1]) if series and np.isfinite(series.value[-1]) else None

    @property
    def per_second(self) -> float | None:
        """Training examples a second over all epochs, without validation and callbacks."""
        series = self.metrics.get("train/examples_per_s")
        known = series.value[series.value > 0] if series else []
        return float(1 / np.mean(1 / known)) if len(known) else self.provenance.get("examples_per_s")

    @property
    def finished(self) -> bool:
        return self.provenance.get("state") == "finished"

    @cached_property
    def steps_per_epoch(self) -> float | None:
        steps, epochs = self.provenance.get("steps"), self.provenance.get("epochs")
        if self.finished and steps and epochs:
            return steps / epochs
        ends: dict[float, float] = {}
        for series in self.metrics.values():
            for epoch, step in zip(series.epoch, series.step, strict=True):
                ends[epoch] = max(step, ends.get(epoch, 0))
        whole = sorted(ends)[:-1]  # the last epoch may have been cut short
        if len(whole) > 1:
            length = float(np.median(np.diff([ends[e] for e in whole]) / np.diff(whole)))
            return length if length > 0 else None
        return ends[whole[0]] + 1 if whole else None

    def clock(self, series: Series) -> np.ndarray:
        """When each value was logged: in epochs done (1: the first is over), or in steps if unknown."""
        length = self.steps_per_epoch
        if not length:
            return series.step
        x = (series.step + 1) / length
        if length > 2 and len(x) <= len(np.unique(series.epoch)):  # one a epoch: loggers differ by a step
            x = np.where(abs(x - x.round()) <= 1.01 / length, x.round(), x)
        return x

    @property
    def epochs(self) -> int | None:
        """Epochs done."""
        if self.provenance.get("epochs") is not None:
            return int(self.provenance["epochs"])
        if not self.metrics or not self.steps_per_epoch:
            return None
        return int(max(self.clock(series).max() for series in self.metrics.values()) + 1e-6)


def read(folder: Path | str) -> Run:
    """Read `runs/EXPERIMENT/VERSION`, finished or not."""
    path = Path(folder).resolve()
    if not path.is_dir():
        raise NoRunError(f"{folder} is no folder; give a run folder, runs/EXPERIMENT/VERSION")
    if not any((path / name).is_file() for name in FILES):
        raise NoRunError(
            f"{folder} is no run folder: it has no {', no '.join(FILES)}; give runs/EXPERIMENT/VERSION"
        )
    config = complete_config(_mapping(path / "config.yaml", _yaml))
    return Run(
        path=path,
        experiment=str(config.get("experiment") or path.parent.name),
        version=path.name,
        config=config,
        provenance=_mapping(path / "provenance.json", json.loads),
        metrics=_metrics(path / "metrics.csv"),
        figures=_figures(path / "figures"),
    )


def dig(tree: object, *keys: str) -> object:
    """tree[a][b][c], or None where the path ends early."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _yaml(text: str) -> object:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _mapping(file: Path, parse) -> dict:
    if not file.is_file():
        return {}
    try:
        found = parse(file.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise NoRunError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, dict):
        raise NoRunError(f"{file} cannot be read: it holds no mapping but a {type(found).__name__}")
    return found or {}


def _metrics(file: Path) -> dict[str, Series]:
    """Columns by name. Of rows with the same step the later counts: a resumed run repeats steps."""
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoRunError(f"{file} cannot be read: {error}") from error
    lines = text[: text.rfind("\n") + 1].splitlines()  # a row without its end was cut while written
    columns: dict[str, dict[float, tuple[float, float]]] = {}
    for line, row in enumerate(csv.DictReader(lines), start=2):
        try:
            cells = {name: float(cell) for name, cell in row.items() if name and cell}
        except (ValueError, TypeError) as error:
            raise NoRunError(f"{file}, line {line}, cannot be read: {error}") from error
        step = cells.pop("step", line - 2)
        epoch = cells.pop("epoch", 0)
        for name, value in cells.items():
            columns.setdefault(name, {})[step] = (epoch, value)
    return {
        name: Series(*np.array([(epoch, step, value) for step, (epoch, value) in sorted(cells.items())]).T)
        for name, cells in columns.items()
    }


def _figures(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in sorted(folder.glob("*/epoch=*.png")):
        if epoch := re.fullmatch(r"epoch=(\d+)", file.stem):
            found.setdefault(file.parent.name, []).append((int(epoch[1]), file))
    return {name: sorted(files) for name, files in found.items()}
