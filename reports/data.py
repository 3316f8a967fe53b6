"""The data behind figures: figures/NAME/epoch=N.npz and .json, as far as they can be read."""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from common.renamed import rename_figure_keys
from reports.run import Run


def epochs(run: Run, name: str, ending: str = "npz") -> list[int]:
    """For which epochs there are data of a figure, oldest first."""
    files = (run.path / "figures" / name).glob(f"epoch=*.{ending}")
    return sorted(int(found[1]) for file in files if (found := re.fullmatch(r"epoch=(\d+)", file.stem)))


def arrays(run: Run, name: str, epoch: int | None = None) -> dict[str, np.ndarray]:
    """Of an epoch, or the newest; empty where there are none, or none that can be read."""
    known = epochs(run, name)
    if not known:
        return {}
    return load(run.path / "figures" / name / f"epoch={known[-1] if epoch is None else epoch}.npz")


def load(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as found:
            return rename_figure_keys(dict(found))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}


def facts(run: Run, name: str) -> dict[str, Any]:
    """Of the newest epoch; empty where there are none, or none that can be read."""
    known = epochs(run, name, "json")
    if not known:
        return {}
    try:
        found = json.loads((run.path / "figures" / name / f"epoch={known[-1]}.json").read_text())
    except (OSError, ValueError):
        return {}
    return rename_figure_keys(found) if isinstance(found, dict) else {}
