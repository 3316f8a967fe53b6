"""Runs as jobs of Slurm: one process for each task, and back to the queue when a job's time is over."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from launch.folders import is_readable, list_versions
from launch.requeue import Requeue


def check_started_by_srun() -> None:
    """Raises in a job of several tasks where python was started once, and would wait for the others for ever."""
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    started = "SLURM_STEP_ID" in os.environ or TorchElasticEnvironment.detect()
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # Lightning's way out, too
    if tasks > 1 and not started and not by_hand:
        raise MisconfigurationException(
            f"this Slurm job has {tasks} tasks and python was started once: put srun before python, as slurm/*.sh do"
        )


def install_requeue_handler(trainer: Trainer) -> None:
    """Under Slurm, requeue in our way and not in Lightning's."""
    # strategies of one device do not have it
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False
        trainer.callbacks.append(Requeue())


def find_requeued_run(experiment: Path) -> tuple[Path, Path | None] | None:
    """The run that the same command began before this job was queued again, and its newest checkpoint, if any."""
    if not int(os.environ.get("SLURM_RESTART_COUNT", 0)):
        return None
    for folder in reversed(list_versions(experiment)):
        try:
            facts = json.loads((folder / "provenance.json").read_text())
        except (FileNotFoundError, ValueError):  # ended before, or while, it was written
            continue
        if facts.get("slurm_job") == os.environ["SLURM_JOB_ID"] and facts["command"] == current_command():
            saved = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
            return folder, next((path for path in saved if path.is_file() and is_readable(path)), None)
    return None


def current_command() -> str:
    """As provenance.json has it."""
    return shlex.join(["python", *sys.argv])


def requeue_job() -> None:
    """The last thing a process does: Slurm ends the job within milliseconds."""
    job = os.environ["SLURM_JOB_ID"]
    print(f"job {job} goes back to the queue and will go on from here", flush=True)
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if done.returncode:
        why = f"scontrol requeue {job}: {done.stderr.strip() or 'refused'}"
        print(f"error: {why}; --ckpt_path last goes on in another job", file=sys.stderr)
