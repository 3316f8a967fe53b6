"""Figures are saved in the run folder, with the data behind them, and sent to every logger that takes images."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure

from callbacks.plotting.style import DPI
from common.files import atomic_write

matplotlib.use("Agg")


def figure_path(trainer: Trainer, name: str) -> Path:
    """Path of this epoch's picture in the run folder."""
    return Path(trainer.default_root_dir) / "figures" / name / f"epoch={trainer.current_epoch}.png"


def read_previous_data(folder: Path, epoch: int) -> dict[str, np.ndarray]:
    """Read the newest arrays in a figure's folder that are from before this epoch; empty where there are none."""
    matches = (re.fullmatch(r"epoch=(\d+)", path.stem) for path in folder.glob("*.npz"))
    newest = max((int(match[1]) for match in matches if match and int(match[1]) < epoch), default=None)
    if newest is None:
        return {}
    with np.load(folder / f"epoch={newest}.npz") as data:
        return dict(data)


@rank_zero_only
def save_table(trainer: Trainer, name: str, rows: list[dict[str, Any]]) -> None:
    """Send examples with their facts to W&B as a table; an `example` is uint8 (H, W, C) or a text."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            cells = [[row.get(key) for key in columns] for row in rows]
            data = [
                [wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in cells
            ]
            logger.log_table(f"{name}_table", columns=columns, data=data)


@rank_zero_only
def save_figure(
    trainer: Trainer, name: str, figure: Figure, facts: dict[str, Any] | None = None, **data: np.ndarray
) -> None:
    """Write `figures/NAME/epoch=N.png` and the data behind it, and send the picture to W&B and TensorBoard.

    Args:
        facts: plain types, to `.json` beside the picture.
        data: arrays, to `.npz`.
    """
    path = figure_path(trainer, name)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    if data:
        with atomic_write(path.with_suffix(".npz")) as temporary:
            np.savez_compressed(temporary, **data)
    if facts:
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, trainer.global_step)
    matplotlib.pyplot.close(figure)
