"""What tests of figures share: a short fit on the tiny data set or on tweets with some callbacks, and what it wrote."""

import json
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer

from callbacks.evaluation.features import Features
from callbacks.loggers.csv import CSVLogger
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from datamodules.tweets import Tweets
from tests.methods import METHODS, Case, build, train


def find_case(method: str, number: int = 0) -> Case:
    """The method's line in the table, the first if it has several."""
    return [case for case in METHODS if case.method.__name__ == method][number]


def build_tiny_data(case: Case, data_dir: Path, **options) -> Arrays | Tweets:
    if case.text:
        return Tweets(data_dir=str(data_dir), batch_size=16, **options)
    views = [Recipe(size=size) for size in case.sizes]
    options = {"batch_size": 16, "mean": [case.mean], "std": [case.std]} | options
    return Arrays("tiny", data_dir=str(data_dir), views=views, **options)


def fit_case(
    case: Case, data_dir: Path, folder: Path, *callbacks, data=None, shared=None, **options
) -> Trainer:
    """One epoch of training."""
    module = build(case, **(shared or {}))
    options = {"logger": CSVLogger(str(folder)), "callbacks": [Features(), *callbacks]} | options
    return train(module, data or build_tiny_data(case, data_dir), folder, **options)


def read_figure(folder: Path, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Facts and arrays, if any, of the only picture of that name, which is a PNG."""
    (picture,) = (folder / "figures" / name).glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    facts, arrays = picture.with_suffix(".json"), picture.with_suffix(".npz")
    data = dict(np.load(arrays)) if arrays.exists() else {}
    return json.loads(facts.read_text()) if facts.exists() else {}, data


def read_last_metrics(folder: Path) -> dict[str, float]:
    """Metric -> its newest value in metrics.csv."""
    return {name: rows[-1, 2] for name, rows in CSVLogger(str(folder)).read_series().items()}


def write_numbers(folder: Path) -> Path:
    """A data set `tiny` without classes: random images and two numbers for each; returns `folder`."""
    rng = np.random.default_rng(0)
    (folder / "tiny").mkdir()
    for split, count in {"train": 48, "test": 16}.items():
        images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
        np.save(folder / "tiny" / f"{split}_images.npy", images)
        np.save(folder / "tiny" / f"{split}_labels.npy", rng.random((count, 2), np.float32))
    return folder
