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


def list_epochs(run: Run, name: str, ending: str = "npz") -> list[int]:
    """Epochs of which there are data of a figure, oldest first."""
    files = (run.path / "figures" / name).glob(f"epoch=*.{ending}")
    return sorted(int(epoch[1]) for file in files if (epoch := re.fullmatch(r"epoch=(\d+)", file.stem)))


def load_arrays(run: Run, name: str, epoch: int | None = None) -> dict[str, np.ndarray]:
    """Arrays of an epoch, or of the newest; empty where there are none, or none that can be read."""
    epochs = list_epochs(run, name)
    if not epochs:
        return {}
    return load_npz(run.path / "figures" / name / f"epoch={epochs[-1] if epoch is None else epoch}.npz")


def load_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays in a file; empty where it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return rename_figure_keys(dict(arrays))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}


def load_facts(run: Run, name: str) -> dict[str, Any]:
    """The JSON of the newest epoch; empty where there is none, or none that can be read."""
    epochs = list_epochs(run, name, "json")
    if not epochs:
        return {}
    try:
        facts = json.loads((run.path / "figures" / name / f"epoch={epochs[-1]}.json").read_text())
    except (OSError, ValueError):
        return {}
    return rename_figure_keys(facts) if isinstance(facts, dict) else {}


def newest_source(run: Run, name: str, ending: str = "npz") -> str:
    """Where the newest data of a figure are, under the run folder."""
    return f"figures/{name}/epoch={list_epochs(run, name, ending)[-1]}.{ending}"
