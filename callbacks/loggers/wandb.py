"""Weights & Biases that never holds up or ends a run: online where the user is logged in and the server answers."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from wandb.proto.wandb_internal_pb2 import Record

from callbacks.loggers.csv import CSVLogger

BLOCK, HEADER = 32768, struct.Struct("<IHB")  # of a LevelDB log: checksum, length, kind
STEP = "trainer/global_step"


def online() -> bool:
    """Whether the server takes connections (asked for at most 2 s, with the look-up of its name) and a key is known."""
    url = urlsplit(wandb.setup().settings.base_url)
    asking = ThreadPoolExecutor(1)
    try:
        asking.submit(socket.create_connection, (url.hostname, url.port or 443), 2).result(2).close()
        return wandb.login(
            prompt=False, verify=False
        )  # whether the server takes the key, `init` finds out sooner
    except OSError:
        rank_zero_info(f"W&B: {url.hostname} does not answer, logging offline")
    except wandb.errors.Error as error:
        rank_zero_info(f"W&B: {error}; logging offline")
    finally:
        asking.shutdown(wait=False)
    return False


def records(path: Path) -> Iterator[Record]:
    """What W&B has written of a run, also of one that was killed: protobuf in the blocks of a LevelDB log."""
    content, at, part = path.read_bytes(), 7, b""
    while at + HEADER.size <= len(content):
        left = BLOCK - at % BLOCK
        _, length, kind = HEADER.unpack_from(content, at)
        if left < HEADER.size or kind == 0:
            at += left
            continue
        start, at = at + HEADER.size, at + HEADER.size + length
        if at > len(content):
            return  # cut short
        part += content[start:at]
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(part)
            part = b""


def logged(folder: Path, run: str) -> set[tuple[int, str]]:
    """(step, metric) of all that W&B's files in a run folder have of a run, of each time that it was resumed."""
    found = set()
    for path in folder.glob(f"wandb/*run-*-{run}/*.wandb"):
        for record in records(path):
            row = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            found |= {(json.loads(row[STEP]), name) for name in row if STEP in row}
    return found


class WandbLogger(loggers.WandbLogger):
    """Lightning's WandbLogger, offline where it would fail; `wandb sync RUN_FOLDER/wandb/*run-*` uploads later.

    A run that is resumed in its folder joins the same W&B run: rows that W&B has are not logged twice, and those that a
    kill took from it come from metrics.csv.

    Args:
        project: where the runs are listed.
        name: of the run; the command line sets it to EXPERIMENT/VERSION.
        save_dir: the command line sets it to the run folder.
        id: W&B's name of the run to join; the command line takes it from the checkpoint.
    """

    def __init__(
        self,
        project: str = "lightbox",
        name: str | None = None,
        save_dir: str = ".",
        id: str | None = None,
    ):
        limits = wandb.Settings(init_timeout=3, finish_timeout=30)  # going offline after that takes 4 s more
        super().__init__(project=project, name=name, save_dir=save_dir, id=id, settings=limits)
        self.has: set[tuple[int, str]] = set()  # what a resumed run need not log again

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None and "WANDB_MODE" not in os.environ:
            self._wandb_init["mode"] = "online" if online() else "offline"
        try:
            return super().experiment
        except wandb.errors.Error as error:
            rank_zero_info(f"W&B: {error}; logging offline")
            self._wandb_init["mode"] = "offline"
            return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if metrics := {name: value for name, value in metrics.items() if (step, name) not in self.has}:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """A run resumes at `step`: log what is missing up to there, and later only what is not known already."""
        if not self._id:
            return
        self.has = logged(Path(self.save_dir), self._id)
        for row in CSVLogger(self.save_dir).rows()[1]:
            here = int(row["step"])
            if here < step:
                self.log_metrics({k: float(v) for k, v in row.items() if v and k != "step"}, here)
