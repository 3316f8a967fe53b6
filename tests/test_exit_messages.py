"""What ended a run is one line; what is a bug keeps its traceback."""

import errno
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch.utils.data import DataLoader, Dataset

from launch.exit_messages import explain_error


class Broken(Dataset):
    def __getitem__(self, index):
        raise MisconfigurationException("data/x.npy: too short")

    def __len__(self):
        return 2


def raised(call) -> BaseException:
    with pytest.raises(BaseException) as error:
        call()
    return error.value


ERRORS = {  # name: (the error, exit status, what the line says)
    "full disk": (
        OSError(errno.ENOSPC, "No space left on device", "a.csv"),
        2,
        "a.csv: No space left on device: free",
    ),
    "full disk, no name": (
        OSError(errno.ENOSPC, "No space left on device"),
        2,
        "run: No space left on device",
    ),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "a"), 2, "another --runs_dir"),
    "GPU memory": (
        torch.OutOfMemoryError("CUDA out of memory.\nGPU 0"),
        2,
        "batch_size 32 --trainer.accumulate_grad_batches 2",
    ),
    "interrupt": (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    "terminated": (SIGTERMException(), 143, "stopped by SIGTERM"),
    "worker": (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        2,
        "worker was killed (Killed)",
    ),
    "workers": (
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
        2,
        "num_workers need less",
    ),
    "no bf16 kernel": (
        RuntimeError(
            "could not create a primitive descriptor for the LSTM forward propagation primitive. Run workload with "
            "environment variable ONEDNN_VERBOSE=all to get additional diagnostic information."
        ),
        2,
        "no LSTM forward propagation in the run's precision (bf16 needs AVX-512 or newer units): give --trainer.pre",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_accident_is_one_line_with_advice_and_what_is_kept(name, tmp_path):
    error, status, says = ERRORS[name]
    run = tmp_path / "run"
    line, exit_status = explain_error(error, run, 64, 1)
    assert (
        exit_status == status
        and says in line
        and "\n" not in line
        and line.endswith("no checkpoint was written yet")
    )
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/previous.ckpt").touch()
    assert explain_error(error, run)[0].endswith(
        "previous.ckpt is kept, the same command with --ckpt_path last goes on"
    )
    assert "checkpoint" not in explain_error(error, None)[0]


def test_memory_that_the_processor_has_not_is_told():
    error = raised(lambda: torch.empty(10**15))
    assert explain_error(error, None, 3, 4)[0].endswith("batch_size 1 --trainer.accumulate_grad_batches 8")


def test_what_a_data_worker_says_is_told_without_its_traceback():
    error = raised(lambda: list(DataLoader(Broken(), num_workers=1)))
    assert "Traceback" in str(error) and explain_error(error, Path("run")) == ("data/x.npy: too short", 2)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("shapes"), FileNotFoundError(errno.ENOENT, "x"), SystemExit(2)]
)
def test_a_bug_is_not_explained_away(error):
    assert explain_error(error, Path("run")) is None
