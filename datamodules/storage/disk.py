"""Files that appear whole or not at all, from one process at a time; what the disk refuses, in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock
from lightning.pytorch.utilities.exceptions import MisconfigurationException


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Inside, what the system refuses becomes one line that names the file, `path` where the system does not say."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename or path).absolute()
        raise MisconfigurationException(
            f"{where}: {error.strerror or error}; put that right, or point --data.init_args.data_dir elsewhere"
        ) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, no other process prepares this folder, and nothing is left of one that was killed meanwhile."""
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for part in folder.glob(".part-*"):
                part.unlink()
            yield


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Another path, to write to: what is there in the end appears under `path`, replacing what was."""
    temporary = path.with_name(f".part-{uuid4().hex}")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
