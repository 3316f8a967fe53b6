"""Files that appear complete or not at all, and errors of the system in one readable line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".part-"


@contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is made; on success the file there replaces `path`.

    On any error the temporary file is removed, and what was under `path` stays. The temporary keeps the name of `path`
    as its ending, since writers such as `numpy.savez` look at the suffix. One that a killed process left is replaced.

    Args:
        shared: several processes may write `path` at the same time, and each gets a temporary path of its own.
    """
    owner = f"{os.getpid()}-" if shared else ""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{owner}{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def readable_os_errors(path: Path, message: str) -> Iterator[None]:
    """Turn an error of the system into a MisconfigurationException of one line.

    Args:
        path: the file or folder that is read or written.
        message: the line, with `{path}`, `{file}` (the absolute path that the system names, or else `path`) and
            `{reason}` in it.
    """
    try:
        yield
    except OSError as error:
        from lightning.pytorch.utilities.exceptions import MisconfigurationException  # slow to import

        file, reason = Path(error.filename or path).absolute(), error.strerror or error
        raise MisconfigurationException(message.format(path=path, file=file, reason=reason)) from error
