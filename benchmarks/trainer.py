"""What Lightning, callbacks, loggers and checkpoints take of a small step, beside the same steps in a bare loop.

    python benchmarks/trainer.py                        # about 2 minutes

configs/simclr_digits.yaml (`wide3` at 16x16, batch 128) through cli.py on drawn images, with all that is on by default;
no validation, so that callbacks which run then do not count (benchmarks/callbacks_cost.py counts those). Every few
steps the Trainer waits while a plain loop takes as many steps with a copy of the module: the same loader, augmentation,
precision and optimizer. Epochs end meanwhile, and checkpoints are written. Below that, what of it each callback and
logger takes.
"""

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.drawn_images import write_block_images
from benchmarks.program import (
    ROOT,
    build_fit_command,
    build_parser,
    count_cores,
    print_facts,
    read_load,
    save_json,
)
from datamodules.loading.loader import BatchLoader

HOOKS = [f"on_train_{event}" for event in ("epoch_start", "batch_start", "batch_end", "epoch_end")]
WARM_UP = 2  # turns


class BareTurns(Callback):
    """Lets a bare loop take turns with the Trainer, and writes down the seconds of each turn.

    Args:
        path: of the JSON file.
        steps: of a turn.
        rounds: turns of each, after which training stops.
    """

    def __init__(self, path: str, steps: int, rounds: int):
        self.path, self.steps, self.rounds = path, steps, rounds
        self.turns: dict[str, list[tuple[float, float]]] = {"cli.py": [], "bare": []}
        self.inside: dict[str, float] = defaultdict(float)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        for other in trainer.callbacks:
            for hook in HOOKS:
                if other is not self and getattr(type(other), hook) is not getattr(Callback, hook):
                    setattr(other, hook, self.add_timer(type(other).__name__, getattr(other, hook)))
        for logger in trainer.loggers:
            logger.log_metrics = self.add_timer(type(logger).__name__, logger.log_metrics)
        self.bare = bare_steps(trainer, module)
        self.taken, self.began = 0, (perf_counter(), process_time())

    def add_timer(self, name: str, work: Callable) -> Callable:
        def work_with_timer(*args, **options):
            start = perf_counter()
            result = work(*args, **options)
            if len(self.turns["cli.py"]) >= WARM_UP:
                self.inside[name] += perf_counter() - start
            return result

        return work_with_timer

    def end_turn(self, side: str) -> None:
        """One has ended, the next begins."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = perf_counter(), process_time()
        self.turns[side].append(tuple(b - a for a, b in zip(self.began, now, strict=True)))
        self.began = now

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.taken += 1
        if self.taken % self.steps:
            return
        self.end_turn("cli.py")
        for _ in range(self.steps):
            next(self.bare)
        self.end_turn("bare")
        if len(self.turns["bare"]) == WARM_UP + self.rounds:
            turns = {side: turns[WARM_UP:] for side, turns in self.turns.items()}
            Path(self.path).write_text(json.dumps({"turns": turns, "inside": self.inside}))
            trainer.should_stop = True


def bare_steps(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """The same training as a plain loop, a step at a time."""
    data = trainer.datamodule
    model = copy.copy(module)  # Lightning leaves the Trainer out
    model._modules = copy.deepcopy(module._modules)
    model.outputs = lambda loss, *features, **more: loss
    optimizer = model.optimizer(model.parameter_groups())
    loader = BatchLoader(data.datasets["train"], data.batch_size, data.seed)  # with a place of its own
    while True:
        for number, rows in enumerate(loader):
            batch = data.prepare_batch(rows, model.device, augment=True)
            with trainer.precision_plugin.forward_context():
                loss = model.training_step(batch, number)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def run_bare_turns(images: int, steps: int, rounds: int, without: list[str]) -> dict:
    """What BareTurns of a run writes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_block_images(Path(folder) / "drawn", {"train": images}, cells=16, channels=1)
        options = {
            "runs_dir": folder,
            "data": "datamodules.arrays.Arrays",
            "data.init_args.data_dir": folder,
            "data.init_args.name": "drawn",
            "data.init_args.val_size": 0,
            "trainer.max_epochs": 10_000,
            "trainer.callbacks+": "benchmarks.trainer.BareTurns",
            "trainer.callbacks.path": f"{folder}/turns.json",
            "trainer.callbacks.steps": steps,
            "trainer.callbacks.rounds": rounds,
            "test_after_fit": "false",
            "without": f"[{','.join(['Protocol', *without])}]",
        }
        command = build_fit_command("configs/simclr_digits.yaml", options)
        environment = os.environ | {"WANDB_MODE": "offline"}
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr, env=environment)
        return json.loads(Path(folder, "turns.json").read_text())


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=12_800, help="of an epoch")
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--without", nargs="*", default=[], help="callbacks or loggers to leave out")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    times = run_bare_turns(args.images, args.steps, args.rounds, args.without)
    print_facts({"cores": count_cores(), "load": read_load()})
    print(f"{args.rounds} turns of {args.steps} steps each\n")
    print(f"{'ms a step':<28}{'cli.py':>9}{'bare':>9}{'more':>9}{'share':>9}")
    milliseconds, shares = 1e3 / args.steps, {}
    for column, unit in enumerate(("clock", "all cores")):
        turns = [
            [milliseconds * turn[column] for turn in times["turns"][side]] for side in ("cli.py", "bare")
        ]
        for kind, middle in (("medians", statistics.median), ("means", statistics.mean)):
            ours, bare = (middle(side) for side in turns)
            shares[f"{unit}, {kind}"] = 1 - bare / ours
            print(
                f"{f'{unit}, {kind} of turns':<28}{ours:>9.2f}{bare:>9.2f}{ours - bare:>9.2f}{1 - bare / ours:>9.1%}"
            )
    print("\nof which, by the clock")
    for name, seconds in sorted(times["inside"].items(), key=lambda item: -item[1]):
        print(f"  {name:<26}{milliseconds * seconds / args.rounds:>27.3f}")
    save_json(args.json, times | {"shares": shares})


if __name__ == "__main__":
    main()
