"""The record of a run in its folder, kept from its start to its end: config.yaml and provenance.json."""

import json
import os
import platform
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from common.files import atomic_write
from common.metrics import PROTOCOL_VERSION
from launch.class_counts import find_uneven_counts

PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "numpy", "scikit-learn", "timm", "wandb")


def read_commit() -> tuple[str | None, bool | None]:
    """Read the commit of the project's checkout, and whether tracked files differ from it.

    Both are None outside git, and where the project is installed inside another project's checkout.
    """
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", here, *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def read_cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if "model name" in line:
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def list_hardware() -> dict:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": read_cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": gpus,
        "memory_gb": round(memory, 1),
    }


def read_lineage(ckpt: str | None) -> list[dict]:
    """List the runs that led to a checkpoint's encoder, oldest first: each one's name, config and provenance.

    The list is empty without a checkpoint, or where its run folder has no such files.
    """
    run = Path(ckpt or "").absolute().parent.parent  # RUN/checkpoints/last.ckpt
    try:
        config = yaml.safe_load((run / "config.yaml").read_text())
        provenance = json.loads((run / "provenance.json").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return []
    config = {key: config.get(key) for key in ("seed_everything", "trainer", "model", "data")}
    config["trainer"] = {key: (config["trainer"] or {}).get(key) for key in ("max_epochs", "max_steps")}
    facts = ("method", "data", "class_names", "commit", "epochs", "state")
    provenance_facts = {key: provenance.get(key) for key in facts}
    name = "/".join(run.parts[-2:])
    return [
        *(provenance.get("stages") or []),
        {"run": name, "config": config, "provenance": provenance_facts},
    ]


class RunFolder(Callback):
    """Writes config.yaml and provenance.json, gives the full config to every logger, and counts warnings.

    Nothing is written before the work begins: what fails at its start leaves no trace, also not in a run that goes on.

    Args:
        folder: the run folder; only the first rank writes there.
        config: the full config, as YAML.
        hparams: the same as a dict, for the loggers.
        is_new: whether the folder was made for this run, and not for one that goes on.
    """

    def __init__(self, folder: Path, config: str, hparams: dict, is_new: bool = False):
        self.folder, self.config, self.hparams, self.is_new = folder, config, hparams, is_new
        self.warnings: Counter[str] = Counter()
        self.facts: dict = {}
        self.start_s = perf_counter()
        self.earlier_wall_s = 0.0  # of a resumed run, until it stopped
        self.has_begun = False
        self.exception: BaseException | None = None  # what ended the run

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.facts or not trainer.is_global_zero:
            return
        # a new run has no provenance yet, and a crash of the system may have left half of it
        with suppress(FileNotFoundError, ValueError):
            earlier = json.loads((self.folder / "provenance.json").read_text())
            self.earlier_wall_s = earlier.get("wall_s") or 0.0
        self.count_warnings()
        sha, dirty = read_commit()
        self.facts = {
            "verb": trainer.state.fn.value,
            "command": shlex.join(["python", *sys.argv]),
            "started": datetime.now().isoformat(timespec="seconds"),
            "commit": sha,
            "dirty": dirty,
            "host": platform.node(),
            "hardware": list_hardware(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "seed": self.hparams["seed_everything"],
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "method": type(module).__name__,
            "data": type(trainer.datamodule).__name__,
            "encoder_parameters": sum(p.numel() for p in module.encoder.parameters()),
            "num_classes": trainer.datamodule.num_classes,
            "class_names": trainer.datamodule.class_names,
            "examples": {name: len(split) for name, split in trainer.datamodule.datasets.items()},
            "encoder_dim": module.encoder.dim,
            "protocol": PROTOCOL_VERSION,
        }
        if counts := find_uneven_counts(trainer.datamodule):
            self.facts["class_counts"] = counts
        dataset = trainer.datamodule.datasets["train"]
        if hasattr(dataset, "images"):
            self.facts |= {"unit": "images", "image_size": list(dataset.images.shape[1:])}
        else:
            self.facts["unit"] = "examples"
        if stages := read_lineage(self.hparams["model"]["init_args"].get("ckpt")):
            self.facts["stages"] = stages

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.has_begun or not trainer.is_global_zero:
            return
        self.has_begun = True
        (self.folder / "config.yaml").write_text(self.config)
        for logger in trainer.loggers:
            commit = {"commit": self.facts["commit"], "uncommitted_changes": self.facts["dirty"]}
            logger.log_hyperparams(self.hparams | commit)
        self.write_provenance(trainer, "running")

    on_validation_start = on_test_start = on_train_start

    @property
    def has_worked(self) -> bool:
        """Whether there is anything to keep: a training that failed before its first step was a failed start."""
        failed = self.facts.get("verb") == "fit" and self.facts.get("state") == "failed"
        return self.has_begun and not (failed and not self.facts["steps"])

    def count_warnings(self) -> None:
        """Count each warning that is shown from now on."""
        show_warning = warnings.showwarning

        def count_and_show(message, category, *args, **kwargs) -> None:
            self.warnings[str(message)] += 1
            show_warning(message, category, *args, **kwargs)

        warnings.showwarning = count_and_show

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.write_provenance(trainer, "running")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        # what callbacks logged when the last epoch ended is known now
        self.write_provenance(trainer, "running")

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.exception = exception
        state = "interrupted" if isinstance(exception, KeyboardInterrupt | SystemExit) else "failed"
        with suppress(OSError):  # a full disk may be what ended the run
            self.write_provenance(trainer, state, error=f"{type(exception).__name__}: {exception}")

    @rank_zero_only
    def write_provenance(self, trainer: Trainer, state: str, error: str | None = None) -> None:
        """Rewrite provenance.json, once there is one. States: running, finished, interrupted, failed."""
        if not self.has_begun:
            return
        metrics = trainer.callback_metrics
        self.facts |= {
            "state": state,
            "error": error,
            "ended": datetime.now().isoformat(timespec="seconds"),
            "wall_s": round(self.earlier_wall_s + perf_counter() - self.start_s, 1),
            "epochs": trainer.current_epoch,
            "max_epochs": trainer.max_epochs,
            "steps": trainer.global_step,
            "warnings": [{"text": text, "count": count} for text, count in self.warnings.items()],
            "skipped": {
                type(callback).__name__: callback.skip_reason
                for callback in trainer.callbacks
                if getattr(callback, "skip_reason", None)
            },
        }
        if "train/examples_per_s" in metrics:
            self.facts["examples_per_s"] = round(float(metrics["train/examples_per_s"]), 1)
        with atomic_write(self.folder / "provenance.json") as temporary:
            temporary.write_text(json.dumps(self.facts, indent=2))
