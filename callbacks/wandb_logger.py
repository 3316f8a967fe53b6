"""Weights & Biases that never blocks or fails a run: online where the user is logged in and the server answers."""

import os
import socket
from typing import Any
from urllib.parse import urlsplit

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_info


def online() -> bool:
    """Whether the server takes connections (asked for at most 5 s) and a key is known that it accepts."""
    url = urlsplit(wandb.setup().settings.base_url)
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=5).close()
        return wandb.login(prompt=False)
    except OSError:
        rank_zero_info(f"W&B: {url.hostname} does not answer, logging offline")
    except wandb.errors.Error as error:
        rank_zero_info(f"W&B: {error}; logging offline")
    return False


class WandbLogger(loggers.WandbLogger):
    """Lightning's WandbLogger, offline where it would fail; `wandb sync RUN_FOLDER/wandb/offline-run-*` uploads later.

    Args:
        project: where the runs are listed.
        name: of the run; the command line sets it to EXPERIMENT/VERSION.
        save_dir: the command line sets it to the run folder.
    """

    def __init__(self, project: str = "lightbox", name: str | None = None, save_dir: str = "."):
        super().__init__(
            project=project, name=name, save_dir=save_dir, settings=wandb.Settings(init_timeout=10)
        )

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
