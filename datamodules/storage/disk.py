"""A lock for the preparation of a folder, and errors of the disk in one line that says what to do."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.files import TEMPORARY_PREFIX, readable_os_errors

MESSAGE = "{file}: {reason}; put that right, or point --data.init_args.data_dir elsewhere"


def readable_disk_errors(path: Path) -> AbstractContextManager[None]:
    """Turn an error of the system into one line that says what to do, see `readable_os_errors`."""
    return readable_os_errors(path, MESSAGE)


def missing_data_error(path: Path, how_to_get: str) -> MisconfigurationException:
    """Make the error that there is no data set at a path, with how to get it."""
    return MisconfigurationException(
        f"no data set at {path.absolute()}: {how_to_get}, or point --data.init_args.data_dir to where it is"
    )


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from preparing this folder, and remove temporary files that a killed process left."""
    with readable_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for temporary in folder.glob(f"{TEMPORARY_PREFIX}*"):
                temporary.unlink()
            yield
