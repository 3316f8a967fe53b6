"""A training goes on as what it was: optimizer, schedule and batch size are those that it was started with."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from common.renamed import complete_config
from launch.parser import flatten_tree
from reports.run import get_nested

OPTIONS = (
    *(f"model.init_args.{name}" for name in ("optimizer", "schedule", "warmup_epochs", "layer_decay")),
    *("model.init_args.weight_decay_end", "trainer.limit_train_batches", "trainer.overfit_batches"),
)
# in torch's groups of parameters: no options, options of how it is computed, and what older versions did not store
UNCOMPARED = {"params", "lr", "foreach", "fused", "capturable", "differentiable"}
RECENT = {"maximize", "decoupled_weight_decay"}


class Resume(Callback):
    """Refuses to go on with options that the checkpoint's state would overrule, or that make the schedule jump.

    What a run was started with is in the config.yaml of the checkpoint's run folder, if there is one, and in the state
    of its optimizer. A longer `max_epochs` is welcome. Of a batch in other parts (more accumulated, or more processes)
    the place in the epoch is counted anew. Launch puts it in.

    Args:
        config: the whole configuration of the present run.
    """

    def __init__(self, config: dict):
        self.config = config
        self.patience: dict[EarlyStopping, int] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.patience = {c: c.patience for c in trainer.callbacks if isinstance(c, EarlyStopping)}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        self.groups = checkpoint["optimizer_states"][0]["param_groups"]
        self.scheduler = checkpoint["lr_schedulers"][0]
        before = complete_config(read_beside(trainer.ckpt_path, "config.yaml"))
        if get_nested(before, "model", "class_path") != get_nested(self.config, "model", "class_path"):
            return  # no run folder, or another method's, whose weights do not fit
        refuse_changes(list_options(before), list_options(self.config), trainer.ckpt_path)
        processes = read_beside(trainer.ckpt_path, "provenance.json").get("processes", trainer.world_size)
        old, new = batch_sizes(before, processes), batch_sizes(self.config, trainer.world_size)
        if old is not None and new is not None and old != new:
            move_place(checkpoint, old, new, trainer.ckpt_path)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.ckpt_path:
            return
        check_optimizer(self.groups, self.scheduler, trainer)
        for callback, patience in self.patience.items():
            callback.patience = patience  # which Lightning restores, too


def read_beside(ckpt_path: str | Path, name: str) -> dict[str, Any]:
    """A YAML or JSON file of the run folder that a checkpoint is in; empty where there is none."""
    try:
        content = yaml.safe_load((Path(ckpt_path).absolute().parent.parent / name).read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def list_options(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a configuration that a training keeps, by their dotted names."""
    options: dict[str, Any] = {}
    for name in OPTIONS:
        options |= flatten_tree(get_nested(config, *name.split(".")), name)
    return {
        name: value for name, value in options.items() if name.rpartition(".")[2] not in UNCOMPARED - {"lr"}
    }


def refuse_changes(before: dict[str, Any], now: dict[str, Any], ckpt_path: str | Path) -> None:
    """Raise where options that both have differ, with both values of each."""
    changes = [
        f"{name} is {now[name]}, the run was started with {before[name]}"
        for name in before
        if name in now and before[name] != now[name]
    ]
    if changes:
        raise MisconfigurationException(
            f"{'; '.join(changes)}: give what {ckpt_path} was trained with, or start anew from its encoder by "
            f"--model.init_args.ckpt in place of --ckpt_path"
        )


def check_optimizer(stored: list[dict[str, Any]], scheduler: dict[str, Any], trainer: Trainer) -> None:
    """Raise where the options in an optimizer's state differ from those of the present one, which it would replace."""
    optimizer: Optimizer = trainer.optimizers[0]
    name = type(optimizer).__name__
    now = optimizer.param_groups
    keys, present = (
        {key for group in groups for key in group} - UNCOMPARED - RECENT for groups in (stored, now)
    )
    if keys != present:
        raise MisconfigurationException(
            f"model.init_args.optimizer is {name}, with {', '.join(sorted(present - keys)) or 'fewer options'}, and "
            f"{trainer.ckpt_path} is of another, with {', '.join(sorted(keys - present)) or 'fewer options'}: "
            "give that optimizer"
        )
    sizes = [[len(group["params"]) for group in groups] for groups in (stored, now)]
    if sizes[0] != sizes[1]:
        raise MisconfigurationException(
            f"the optimizer has groups of {sizes[1]} parameters, that of {trainer.ckpt_path} groups of {sizes[0]}: "
            "freeze the same parts, and give the same layer_decay"
        )
    decays = scheduler.get("base_weight_decays")  # where weight decay moves, those of the start
    moves = getattr(trainer.lr_scheduler_configs[0].scheduler, "base_weight_decays", None)
    schedules = [
        {"model.init_args.weight_decay_end": "none" if d is None else "a number"} for d in (decays, moves)
    ]
    refuse_changes(*schedules, trainer.ckpt_path)
    for before, group, decay in zip_longest(stored, now, decays or []):
        before = before if decay is None else before | {"weight_decay": decay}
        names = {"initial_lr": "lr"}
        options = [
            {
                f"{name}'s {names.get(key, key)}": make_list(value)
                for key, value in part.items()
                if key not in UNCOMPARED
            }
            for part in (before, group)
        ]
        refuse_changes(*options, trainer.ckpt_path)


def make_list(value: Any) -> Any:
    """A tuple as the list that YAML makes of it."""
    return list(value) if isinstance(value, tuple) else value


def batch_sizes(config: dict[str, Any], processes: int) -> tuple[int, int, int] | None:
    """The batch of a process, how many are accumulated, and processes; None where the configuration does not say."""
    sizes = (
        get_nested(config, "data", "init_args", "batch_size"),
        get_nested(config, "trainer", "accumulate_grad_batches"),
    )
    return None if sizes[0] is None else (sizes[0], sizes[1] or 1, processes)


def move_place(
    checkpoint: dict[str, Any], old: tuple[int, int, int], new: tuple[int, int, int], ckpt_path: str | Path
) -> None:
    """Count the batches of the unfinished epoch anew, where an optimizer step is of as many examples as before.

    Args:
        checkpoint: changed in place.
        old, new: batch of a process, accumulated batches and processes, of the checkpoint's run and the present one.
    """
    sizes = [batch * accumulated * processes for batch, accumulated, processes in (old, new)]
    if sizes[0] != sizes[1]:
        words = "{} examples (batch_size {}, {} accumulated, processes: {})"
        before, now = (words.format(size, *parts) for size, parts in zip(sizes, (old, new), strict=True))
        raise MisconfigurationException(
            f"an optimizer step is of {now}, that of {ckpt_path} was of {before}, and the schedule counts steps: give "
            "three numbers of the same product"
        )
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    if progress["is_last_batch"]:  # the epoch is over
        return
    current = progress["current"]
    shift = current["ready"] - current["processed"]
    done = current["processed"] * old[0] * old[2] // (new[0] * new[2])
    current.update(ready=done + shift, started=done, processed=done, completed=done)
