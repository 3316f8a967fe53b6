"""The logger of metrics.csv: each row is on disk at once, and a resumed run continues the file."""

import csv
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from common.files import atomic_write


class CSVLogger(Logger):
    """A row for each call, a column for each metric; empty cells where a metric was not logged.

    Args:
        save_dir: folder of metrics.csv; the command line sets it to the run folder.
    """

    def __init__(self, save_dir: str = "."):
        super().__init__()
        self._save_dir = save_dir
        self.columns: list[str] | None = None  # of the file, once it is read

    name, version = "", ""

    @property
    def save_dir(self) -> str:
        return self._save_dir

    @property
    def log_dir(self) -> str:
        return self._save_dir

    @property
    def path(self) -> Path:
        return Path(self._save_dir) / "metrics.csv"

    @staticmethod
    def find_in(trainer: Trainer) -> "CSVLogger | None":
        """Find the trainer's CSVLogger, if it has one."""
        return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)

    @rank_zero_only
    def log_hyperparams(self, params: dict) -> None:
        """Log nothing: config.yaml in the same folder has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"epoch": metrics.get("epoch", ""), "step": step, **metrics}
        if self.columns is None:
            self.columns = self.read_rows()[0]
        new = [name for name in row if name not in self.columns]
        if new:
            self.replace_rows([*self.columns, *new], self.read_rows()[1])
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def rewind_to(self, step: int) -> None:
        """Delete rows of `step` and later: a run that resumes there will log them again."""
        columns, rows = self.read_rows()
        if columns:
            self.replace_rows(columns, [row for row in rows if int(row["step"]) < step])

    def read_rows(self) -> tuple[list[str], list[dict[str, str]]]:
        """Read columns and rows of the file; a last line cut short by a crash is left out."""
        if not self.path.is_file():
            return [], []
        with open(self.path, newline="") as file:
            reader = csv.DictReader(line for line in file if line.endswith("\n"))
            rows = [row for row in reader if None not in row.values() and row["step"].isdigit()]
            return list(reader.fieldnames or []), rows

    def read_series(self) -> dict[str, np.ndarray]:
        """Read metric -> (n, 3): epoch, step and value of its rows; of rows of the same step the last counts."""
        series: dict[str, dict[int, tuple]] = {}
        for row in self.read_rows()[1]:
            for name, cell in row.items():
                if cell and name not in ("epoch", "step"):
                    step = int(row["step"])
                    series.setdefault(name, {})[step] = float(row["epoch"] or "nan"), step, float(cell)
        return {name: np.array(list(rows.values())) for name, rows in series.items()}

    def replace_rows(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        """Write the whole file anew, at once or not at all."""
        with atomic_write(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self.columns = columns
