"""The logger of Weights & Biases, which never holds up or ends a run: it goes offline where the server fails."""

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


def can_go_online() -> bool:
    """Whether the server takes connections within 2 s, its name's look-up included, and the user has a key."""
    url = urlsplit(wandb.setup().settings.base_url)
    thread = ThreadPoolExecutor(1)
    try:
        thread.submit(socket.create_connection, (url.hostname, url.port or 443), 2).result(2).close()
        # whether the server takes the key, `init` finds out sooner
        return wandb.login(prompt=False, verify=False)
    except OSError:
        rank_zero_info(f"W&B: {url.hostname} does not answer, logging offline")
    except wandb.errors.Error as error:
        rank_zero_info(f"W&B: {error}; logging offline")
    finally:
        thread.shutdown(wait=False)
    return False


def read_records(path: Path) -> Iterator[Record]:
    """Read what W&B has written of a run, also of a killed one: protobuf in the blocks of a LevelDB log."""
    content, offset, record = path.read_bytes(), 7, b""
    while offset + HEADER.size <= len(content):
        block_left = BLOCK - offset % BLOCK
        _, length, kind = HEADER.unpack_from(content, offset)
        if block_left < HEADER.size or kind == 0:
            offset += block_left
            continue
        start, offset = offset + HEADER.size, offset + HEADER.size + length
        if offset > len(content):
            return  # cut short
        record += content[start:offset]
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(record)
            record = b""


def read_logged_metrics(folder: Path, run: str) -> set[tuple[int, str]]:
    """Read (step, metric) of all that W&B's files in a run folder have of a run and of its resumptions."""
    logged = set()
    for path in folder.glob(f"wandb/*run-*-{run}/*.wandb"):
        for record in read_records(path):
            row = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            logged |= {(json.loads(row[STEP]), name) for name in row if STEP in row}
    return logged


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
        self.logged: set[tuple[int, str]] = set()  # (step, metric) that a resumed run need not log again

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None and "WANDB_MODE" not in os.environ:
            self._wandb_init["mode"] = "online" if can_go_online() else "offline"
        try:
            return super().experiment
        except wandb.errors.Error as error:
            rank_zero_info(f"W&B: {error}; logging offline")
            self._wandb_init["mode"] = "offline"
            return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if metrics := {name: value for name, value in metrics.items() if (step, name) not in self.logged}:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def rewind_to(self, step: int) -> None:
        """Log the rows before `step`, where a run resumes, that W&B lacks; rows that it has are not logged again."""
        if not self._id:
            return
        self.logged = read_logged_metrics(Path(self.save_dir), self._id)
        for row in CSVLogger(self.save_dir).read_rows()[1]:
            row_step = int(row["step"])
            if row_step < step:
                metrics = {name: float(cell) for name, cell in row.items() if cell and name != "step"}
                self.log_metrics(metrics, row_step)
