"""runs/EXPERIMENT/VERSION: claim a new one, find the one to go on with; and files that are whole or not there."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def versions(experiment: Path) -> list[Path]:
    """Its runs, oldest first."""
    found = [p for p in experiment.glob("version_*") if re.fullmatch(r"version_\d+", p.name)]
    return sorted(found, key=lambda p: int(p.name.removeprefix("version_")))


def claim(experiment: Path) -> Path:
    """Make the next version's folder. Two processes that ask at once get two."""
    number = int(versions(experiment)[-1].name.removeprefix("version_")) + 1 if versions(experiment) else 0
    while True:
        folder = experiment / f"version_{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise MisconfigurationException(
                f"cannot make the run folder {folder}: {error.strerror}"
            ) from error


def unfinished(experiment: Path) -> tuple[Path, Path]:
    """The newest run that did not finish, and its newest checkpoint that can be read."""
    for folder in reversed(versions(experiment)):
        provenance = folder / "provenance.json"
        state = json.loads(provenance.read_text()).get("state") if provenance.is_file() else None
        if state == "finished":
            continue
        for name in ("last.ckpt", "previous.ckpt"):
            path = folder / "checkpoints" / name
            if path.is_file() and readable(path):
                return folder, path
    raise MisconfigurationException(
        f"--ckpt_path last: no unfinished run with a checkpoint in {experiment.absolute()}; "
        "leave it out to start anew, or give a checkpoint's path"
    )


def readable(path: Path) -> bool:
    """Whether a checkpoint is whole; says so where not."""
    try:
        torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the damage leads to
        rank_zero_warn(f"{path} cannot be read ({type(error).__name__}), trying the one before")
        return False
    return True


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another path, to write to: what is there in the end appears under `path`, replacing what was."""
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise MisconfigurationException(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
