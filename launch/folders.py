"""runs/EXPERIMENT/VERSION: claim a new one, find the one to go on with, and write files complete or not at all."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import yaml
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.checkpoint import read_checkpoint
from common.files import atomic_write, readable_os_errors


def list_versions(experiment: Path) -> list[Path]:
    """Its runs, oldest first."""
    versions = [p for p in experiment.glob("version_*") if re.fullmatch(r"version_\d+", p.name)]
    return sorted(versions, key=lambda p: int(p.name.removeprefix("version_")))


def make_new_version(experiment: Path) -> Path:
    """Make the next version's folder. Two processes that ask at once get two."""
    number = (
        int(list_versions(experiment)[-1].name.removeprefix("version_")) + 1
        if list_versions(experiment)
        else 0
    )
    while True:
        folder = experiment / f"version_{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise MisconfigurationException(
                f"cannot make the run folder {folder}: {error.strerror}; give another --runs_dir"
            ) from error


def lock_run(folder: Path) -> FileLock:
    """Mark a run as one that is being trained until the lock is released or this process ends, however it ends.

    Raises:
        MisconfigurationException: another process trains it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise MisconfigurationException(
            f"{folder} is being trained by another process: wait for its end, or go on with another run by "
            "--ckpt_path RUN/checkpoints/last.ckpt"
        ) from None
    except (OSError, NotImplementedError):
        rank_zero_warn(
            f"{folder} is on a disk without locks: see to it that no other process goes on with this run"
        )
    return lock


def find_latest_unfinished(experiment: Path, seed: int | bool | None = None) -> tuple[Path, Path]:
    """The newest run of a seed that did not finish, and its newest checkpoint that can be read."""
    for folder in reversed(list_versions(experiment)):
        if read_state(folder) == "finished" or read_run_seed(folder) not in (None, seed):
            continue
        for name in ("last.ckpt", "previous.ckpt"):
            path = folder / "checkpoints" / name
            if path.is_file() and is_readable(path):
                return folder, path
    raise MisconfigurationException(
        f"--ckpt_path last: no unfinished run with a checkpoint and seed {seed} in {experiment.absolute()}; "
        "leave it out to start anew, or give a checkpoint's path"
    )


def read_state(folder: Path) -> str | None:
    """Of a run, as its provenance.json says; None where that is missing, or cut short by a crash of the system."""
    try:
        return json.loads((folder / "provenance.json").read_text()).get("state")
    except (FileNotFoundError, ValueError):
        return None


def read_run_seed(folder: Path) -> int | bool | None:
    """Of a run, as its config.yaml says; None where that is missing or cut short."""
    try:
        return yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"]
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):
        return None


def is_readable(path: Path) -> bool:
    """Whether a checkpoint is whole; says so where not."""
    try:
        with ZipFile(path) as file:
            damaged = file.testzip()  # by checksums: a hole of zeros does not keep a tensor from being loaded
        read_checkpoint(path)
    except (BadZipFile, MisconfigurationException):
        damaged = path.name
    if damaged:
        rank_zero_warn(f"{path} cannot be read: it is damaged or was cut short; going on with the one before")
    return not damaged


def find_wandb_id(ckpt_path: str | Path | None, folder: Path) -> str | None:
    """What W&B calls the run that goes on in its own folder; None for a run of its own."""
    if not ckpt_path or Path(ckpt_path).parent.parent != folder:
        return None
    return read_checkpoint(Path(ckpt_path))["callbacks"].get("Checkpoints", {}).get("wandb")


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path as `atomic_write` does; turn an error of the system into one line that names `path`."""
    with readable_os_errors(path, "{path} cannot be written: {reason}"), atomic_write(path) as temporary:
        yield temporary
