"""What tests of mistakes share: each is refused in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from tests.conftest import command_line


@contextmanager
def refused_in_one_line(*patterns: str) -> Iterator[pytest.ExceptionInfo]:
    """The block raises a MisconfigurationException of one line, in which each pattern is found."""
    with pytest.raises(MisconfigurationException) as error:
        yield error
    text = str(error.value)
    assert "\n" not in text and all(re.search(pattern, text) for pattern in patterns), text


def read_error(capsys, *args) -> str:
    """The line `error: ...` that `cli.py ARGS` prints, beside warnings, before it exits with 2."""
    capsys.readouterr()
    assert command_line(*args) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


def read_only_error(capsys, *args) -> str:
    """What `cli.py ARGS` prints before it exits with 2: one line on stderr and nothing else. Nothing is trained."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning.pytorch.Trainer._run", lambda *args, **kwargs: pytest.fail("it went on"))
        assert command_line(*args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err
