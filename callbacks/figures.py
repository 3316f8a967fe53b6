"""Where pictures go: the run folder, with the data behind them, and every logger that takes images."""

import os
from pathlib import Path

import matplotlib
import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure

matplotlib.use("Agg")


@rank_zero_only
def save_figure(trainer: Trainer, name: str, figure: Figure, **data: np.ndarray) -> None:
    """Write `figures/NAME/epoch=N.png` and `.npz`, and send the picture to W&B and TensorBoard."""
    path = Path(trainer.default_root_dir) / "figures" / name / f"epoch={trainer.current_epoch}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight", facecolor="white")
    os.replace(temporary, path)
    if data:
        np.savez_compressed(path.with_suffix(".npz"), **data)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, trainer.global_step)
    matplotlib.pyplot.close(figure)
