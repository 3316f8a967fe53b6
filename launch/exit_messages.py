"""What ended a run, in one line: what happened, what is kept, how to go on. What is not told here is a bug."""

import errno
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import wandb
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from launch.run_folder import RunFolder
from reports.report import write_report

FULL = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit (ulimit -f)",
}
REFUSED = {
    number: "make it writable, or give another --runs_dir"
    for number in (errno.EROFS, errno.EACCES, errno.EPERM)
}
ADVICE = (
    FULL | REFUSED | dict.fromkeys((errno.EIO, errno.ESTALE, errno.EISDIR, errno.ENOTDIR), "put that right")
)
MEMORY = re.compile(r"DefaultCPUAllocator|[Cc]annot allocate memory|CUBLAS_STATUS_ALLOC_FAILED")
WORKER = re.compile(r"DataLoader worker .*(killed by signal: (\w+)|exited unexpectedly)")
NO_KERNEL = re.compile(r"could not create a primitive descriptor for the (.+?) primitive")  # oneDNN's words


def explain_exit(cli: Any, error: BaseException) -> tuple[str, int] | None:
    """Explain what ended a LightningCLI's run, as `explain_error` does. Lightning turns Ctrl-C into an exit."""
    run, data = getattr(cli, "run", None), getattr(cli, "datamodule", None)
    if isinstance(error, SystemExit) and run and isinstance(run.exception, KeyboardInterrupt):
        error = run.exception
    error = find_cause(error)
    sizes = (data.batch_size, cli.trainer.accumulate_grad_batches) if data and hasattr(cli, "trainer") else ()
    return explain_error(error, run.folder if run else None, *sizes)


def find_cause(error: BaseException) -> BaseException:
    """The user's mistake that an error was raised from: jsonargparse wraps what the classes of a config say."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, MisconfigurationException):
        cause = cause.__cause__
    return cause or error


def explain_error(
    error: BaseException, folder: Path | None, batch_size: int = 2, accumulated: int = 1
) -> tuple[str, int] | None:
    """One line and the exit status; None for what needs a traceback.

    Args:
        error: what was raised.
        folder: the run folder, if there is one.
        batch_size, accumulated: of the run, for the advice to halve the one and double the other.
    """
    text, status = str(error), 2
    if isinstance(error, MisconfigurationException):
        return strip_traceback(text), status  # it says itself what to do
    if isinstance(error, KeyboardInterrupt):
        line, status = "stopped by Ctrl-C", 130
    elif isinstance(error, SIGTERMException):
        line, status = "stopped by SIGTERM", 143
    elif isinstance(error, torch.OutOfMemoryError | MemoryError) or MEMORY.search(text):
        line = (
            f"out of memory: halve the batch, and keep its size in effect, by --data.init_args.batch_size "
            f"{max(batch_size // 2, 1)} --trainer.accumulate_grad_batches {2 * accumulated}"
        )
    elif isinstance(error, OSError) and error.errno in ADVICE:
        line = f"{error.filename or folder or 'a file'}: {error.strerror}: {ADVICE[error.errno]}"
    elif isinstance(error, RuntimeError) and (match := WORKER.search(text)):
        line = (
            f"a data worker was killed ({match[2] or 'it is gone'}), by the system if memory was short: "
            "fewer --data.init_args.num_workers need less"
        )
    elif isinstance(error, RuntimeError) and (match := NO_KERNEL.search(text)):
        line = (
            f"this processor has no {match[1]} in the run's precision (bf16 needs AVX-512 or newer units): "
            "give --trainer.precision 32-true"
        )
    else:
        return None
    return f"{line}; {advise_resume(folder)}" if folder else line, status


def strip_traceback(text: str) -> str:
    """The message of an error, also where a data worker wrapped it into a traceback."""
    if "DataLoader worker" not in text:
        return text
    return text.strip().splitlines()[-1].partition("MisconfigurationException: ")[2] or text


def advise_resume(folder: Path) -> str:
    """What a run can go on from."""
    for name in ("last.ckpt", "previous.ckpt"):
        if (path := folder / "checkpoints" / name).is_file():
            return f"{path} is kept, the same command with --ckpt_path last goes on"
    return "no checkpoint was written yet"


def close_run_folder(run: RunFolder) -> None:
    """The last look at a run folder, however the run ended: write the report, or remove a new one without any work."""
    folder = run.folder
    try:
        if not run.has_worked:
            if run.is_new:
                remove_run(folder)
        elif (folder / "metrics.csv").is_file():
            print(f"run folder: {folder}\nreport: {write_report(folder)}")
    except (OSError, ValueError) as error:
        print(
            f"error: no report of {folder}: {error}; python cli.py report {folder} tries again",
            file=sys.stderr,
        )


def remove_run(folder: Path) -> None:
    """Remove the folder of a run that failed at its start, so that it does not count as a version."""
    if wandb.run:  # writes there
        wandb.finish(exit_code=1)
    shutil.rmtree(folder)
