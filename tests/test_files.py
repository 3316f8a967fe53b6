"""Files appear complete or not at all, and the system's errors come in one line."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.files import atomic_write, readable_os_errors


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with atomic_write(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text and names_in(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_temporary(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and names_in(tmp_path) == ["a.txt"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        pass


def test_the_temporary_has_the_suffix_that_writers_look_at(tmp_path):
    with atomic_write(tmp_path / "a.npz") as temporary:
        np.savez(temporary, x=np.arange(3))
    assert names_in(tmp_path) == ["a.npz"] and np.load(tmp_path / "a.npz")["x"].sum() == 3


def test_a_link_left_by_a_killed_process_is_not_written_to(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "other.txt"
    other.write_text("kept")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        raise RuntimeError
    os.link(other, temporary)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), other.read_text()) == ("new", "kept")


def test_shared_temporaries_belong_to_one_process_each(tmp_path):
    with atomic_write(tmp_path / "a.txt", shared=True) as temporary:
        temporary.write_text("mine")
        program = f"""
import pathlib
from common.files import atomic_write
with atomic_write(pathlib.Path({str(tmp_path / "a.txt")!r}), shared=True) as temporary:
    temporary.write_text("theirs")
"""
        subprocess.run([sys.executable, "-c", program], check=True)
        assert temporary.read_text() == "mine" and (tmp_path / "a.txt").read_text() == "theirs"
    assert (tmp_path / "a.txt").read_text() == "mine" and names_in(tmp_path) == ["a.txt"]


def test_an_error_of_the_system_is_one_line(tmp_path):
    missing = tmp_path / "missing.txt"
    message = "{path} cannot be read: {reason} ({file})"
    with pytest.raises(MisconfigurationException) as error, readable_os_errors(tmp_path, message):
        missing.read_text()
    assert str(error.value) == f"{tmp_path} cannot be read: {os.strerror(errno.ENOENT)} ({missing})"
    with pytest.raises(MisconfigurationException) as error, readable_os_errors(tmp_path, message):
        raise OSError("no number")
    assert str(error.value) == f"{tmp_path} cannot be read: no number ({tmp_path})"


def test_braces_in_a_path_are_no_fields(tmp_path):
    path = tmp_path / "{reason}"
    message = "{path}: {reason}"
    with pytest.raises(MisconfigurationException) as error, readable_os_errors(path, message):
        raise OSError(errno.ENOENT, "missing")
    assert str(error.value) == f"{path}: missing"


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(ValueError, match="other"), readable_os_errors(tmp_path, "{path}"):
        raise ValueError("other")
