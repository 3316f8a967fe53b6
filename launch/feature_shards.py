"""Features that come in parts, files whole or not there, so that what is cut off can go on."""

import json
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import BadZipFile

import numpy as np
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from launch.folders import atomic_output

EVERY = 30.0  # seconds between two parts: what a crash may cost


def read_metadata(file: Path) -> dict:
    """What an .npz file says of itself; empty if that is nothing."""
    try:
        return json.loads(str(np.load(file)["about"]))
    except (OSError, ValueError, KeyError, BadZipFile):
        return {}


def check_same(place: Path, wanted: dict, stored: dict) -> None:
    """Raise where a file or folder was not made of what is wanted now. A checkpoint may lie elsewhere."""
    if other := [name for name in wanted if wanted[name] != stored.get(name) and name != "path"]:
        raise MisconfigurationException(
            f"{place} was made with another {' and '.join(other)}: give the same, another --output, or remove it"
        )


class FeatureShards(Callback):
    """Features in a folder, a file for the batches of each half minute, whole or not there.

    Args:
        folder: what is in it counts, if it is of the same `about`.
        about: what the features are of.
        names: of the examples' files, by index, if they have any.
    """

    def __init__(self, folder: Path, about: dict[str, Any], names: list[str] | None):
        self.folder, self.about, self.names = folder, about, names
        self.note = folder / "about.json"
        if self.note.is_file():
            check_same(folder, about, json.loads(self.note.read_text(encoding="utf-8")))
        self.done = max((int(path.stem.split("-")[1]) for path in self.list_shards()), default=0)
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.saved = perf_counter()

    def list_shards(self) -> list[Path]:
        """List the files FIRST-END.npz, batches counted from 0, in order."""
        return sorted(self.folder.glob("[0-9]*-[0-9]*.npz"))

    def on_predict_batch_end(self, trainer, module, outputs: Tensor, batch, batch_idx, dataloader_idx=0):
        _, labels, index, _ = batch
        self.check_finite(outputs, index, trainer.precision)
        self.rows.append(tuple(column.cpu().numpy() for column in (outputs, labels, index)))
        if perf_counter() - self.saved >= EVERY:
            self.write_shard()

    def check_finite(self, features: Tensor, index: Tensor, precision: str) -> None:
        """Raise where features (B, D) are NaN or infinite, naming the first example; no part is kept then."""
        bad = index[~features.isfinite().all(1)].tolist()
        if bad:
            self.rows = []
            shutil.rmtree(self.folder, ignore_errors=True)
            name = f" ({self.names[bad[0]]})" if self.names else ""
            raise MisconfigurationException(
                f"predict: the features of row {bad[0]}{name} are not finite in precision {precision}: give "
                "--trainer.precision 32-true, or an earlier checkpoint where it is that"
            )

    def write_shard(self) -> None:
        """Write what has come since the last time to a file, if anything has."""
        if not self.rows:
            return
        if not self.note.is_file():
            with atomic_output(self.note) as path:
                path.write_text(json.dumps(self.about), encoding="utf-8")
        end = self.done + len(self.rows)
        with atomic_output(self.folder / f"{self.done:09}-{end:09}.npz") as path:
            np.savez(path, **concatenate_rows(self.rows))
        self.done, self.rows, self.saved = end, [], perf_counter()

    def on_predict_end(self, trainer, module) -> None:
        self.write_shard()

    def on_exception(self, trainer, module, exception: BaseException) -> None:
        self.write_shard()

    def join_shards(self, target: Path) -> None:
        """Join all parts in one file and remove the folder."""
        parts = [np.load(path) for path in self.list_shards()]
        columns = concatenate_rows([(part["features"], part["labels"], part["index"]) for part in parts])
        order = columns["index"].argsort()
        columns = {name: column[order] for name, column in columns.items()}
        if self.names:
            columns["names"] = np.array(self.names)[columns["index"]]
        with atomic_output(target) as path:
            np.savez(path, **columns, about=json.dumps(self.about))
        shutil.rmtree(self.folder)
        rows, dim = columns["features"].shape
        rank_zero_info(f"{target}: {rows} examples, {dim} features")
        if missing := sorted(set(range(self.about["examples"])) - set(columns["index"].tolist())):
            first = f"the first is {self.names[missing[0]]}"
            rank_zero_info(f"{len(missing)} images cannot be decoded and are left out, {first}")


def concatenate_rows(rows: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    columns = (np.concatenate(column) for column in zip(*rows, strict=True))
    return dict(zip(("features", "labels", "index"), columns, strict=True))
