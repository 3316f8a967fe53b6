"""Accidents, as callbacks: each happens once, at a step."""

import datetime
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import torch
from lightning.pytorch import Callback

import launch.run_folder
from launch.requeue import Requeue


class Fault(Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            self.happen(trainer, module, batch)

    def happen(self, trainer, module, batch) -> None:
        raise NotImplementedError


class KillAt(Fault):
    """`kill -9` in the middle of a step."""

    def happen(self, trainer, module, batch) -> None:
        """Later."""

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class CtrlCTwice(Fault):
    """The second time while the first is being dealt with."""

    def happen(self, trainer, module, batch) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def on_exception(self, trainer, module, exception) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class Terminate(Fault):
    """SIGTERM, as a scheduler or a shutdown sends it."""

    def happen(self, trainer, module, batch) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class JobEnds(Fault):
    """Slurm says that the time of a job will soon be over; not when it has queued the job again."""

    def happen(self, trainer, module, batch) -> None:
        if "SLURM_RESTART_COUNT" not in os.environ:
            os.kill(os.getpid(), signal.SIGUSR1)


class SlurmEndsJob(Fault):
    """The same, said by Slurm itself to all processes; training goes on once it has arrived."""

    def happen(self, trainer, module, batch) -> None:
        if trainer.is_global_zero and "SLURM_RESTART_COUNT" not in os.environ:
            # the signal reaches scancel, too
            deaf = 'trap "" USR1; exec scancel --signal=USR1 "$SLURM_JOB_ID"'
            subprocess.run(["sh", "-c", deaf], check=True)
            requeue = next(c for c in trainer.callbacks if isinstance(c, Requeue))
            while not requeue.asked:
                time.sleep(0.1)


class NaNBatch(Fault):
    """A batch has a pixel that is not a number."""

    def happen(self, trainer, module, batch) -> None:
        batch[0][0].view(-1)[0] = float("nan")


class FullDisk(Fault):
    """From now on no file can grow beyond 20 kB, whoever writes it, until the test lifts the limit."""

    def happen(self, trainer, module, batch) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class OutOfMemory(Fault):
    def happen(self, trainer, module, batch) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


class KillWorker(Fault):
    """What the system does to a data worker when memory is short."""

    def happen(self, trainer, module, batch) -> None:
        worker = multiprocessing.active_children()[0]
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # or it may die unseen, after the epoch


class CutFile(Fault):
    """Half of a memory-mapped file goes away."""

    def happen(self, trainer, module, batch) -> None:
        file = Path(trainer.datamodule.datasets["train"].images.filename)
        os.truncate(file, file.stat().st_size // 2)


class ClockBack(Fault):
    """The clock is put back by a day."""

    def happen(self, trainer, module, batch) -> None:
        day, now = datetime.timedelta(days=1), time.time

        class Yesterday(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.now(tz) - day

        launch.run_folder.datetime = Yesterday
        time.time = lambda: now() - day.total_seconds()
