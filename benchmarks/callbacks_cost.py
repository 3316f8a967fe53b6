"""What callbacks cost: all default ones over a SimCLR run on CIFAR-10, as a share of the time of its training.

    OMP_NUM_THREADS=1 python benchmarks/callbacks_cost.py

Two short epochs of configs/simclr_cifar10.yaml through cli.py with its own callbacks: a few training batches,
from which whole epochs follow, then what every callback does with all of the data, and the test. How often a callback
runs in a longer run is asked of its `is_due`. Seconds are the processor's, so that a busy machine counts less. What a
callback asks of others counts as theirs: the passes that several callbacks share have rows of their own, and
Lightning's pass over validation, which this method needs for its callbacks alone, is one of them. Of the three sums the
first is of what monitors training. Callbacks for decoders and latents have nothing to draw here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from types import SimpleNamespace

from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import ROOT, build_fit_command, build_parser, read_load, save_json
from callbacks.evaluation.features import Features

MEASURED, RUNS = 2, (20, 100)  # epochs
WARM_UP = 5  # batches
VALIDATION, BANK, TEST, STEPS = "pass over validation", "pass over the bank", "pass over test", ", in steps"
ONCE = ("Views", "Curves", "Protocol")
MONITORS = (
    VALIDATION,
    BANK,
    *(name + more for name in ("OnlineProbe", "KNN", "Collapse") for more in ("", STEPS)),
)
NOT_MEASURED = ("Checkpoints", "Features", "RunFolder", "Throughput")


class CallbackMeter(Callback):
    """Measures what each callback takes, less what it asks of others, and writes it down after the test.

    Args:
        path: of the JSON file.
    """

    def __init__(self, path: str):
        self.path = path
        self.seconds: dict[str, float] = defaultdict(float)
        self.callbacks: dict[str, Callback] = {}
        self.askers: set[str] = set()  # for the bank
        self.stack, self.since = ["start"], process_time()  # the part that runs now is last
        self.batches = 0

    def switch_stack(self, stack: list[str]) -> None:
        now = process_time()
        self.seconds[self.stack[-1]] += now - self.since
        self.stack, self.since = stack, now

    @contextmanager
    def measure_part(self, part: str) -> Iterator[None]:
        before = self.stack
        self.switch_stack([*before, part])
        yield
        self.switch_stack(before)

    def add_timer(self, part: str, work: Callable) -> Callable:
        def work_with_timer(*args, **options):
            if part == BANK and self.stack[-1] in self.callbacks:
                self.askers.add(self.stack[-1])
            with self.measure_part(part):
                return work(*args, **options)

        return work_with_timer

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.callbacks:
            return
        features = Features.find_in(trainer)
        features.encode_bank = self.add_timer(BANK, features.encode_bank)
        for callback in trainer.callbacks:
            name = type(callback).__name__
            if type(callback).__module__.startswith("callbacks.") and name not in NOT_MEASURED:
                self.callbacks[name] = callback
                for hook in (hook for hook in dir(Callback) if hook.startswith("on_")):
                    if getattr(type(callback), hook) is not getattr(Callback, hook):
                        part = name + STEPS if hook.startswith("on_train_batch") else name
                        setattr(callback, hook, self.add_timer(part, getattr(callback, hook)))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.batches += 1
        self.switch_stack(["training" if batch_idx + 1 >= WARM_UP else "warm-up"])

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.switch_stack([VALIDATION])

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.switch_stack(["between epochs"])

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.switch_stack([TEST])

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.switch_stack(["end"])
        data = trainer.datamodule
        steps = len(data.datasets["train"]) // data.batch_size
        epoch = self.seconds["training"] / (self.batches - MEASURED * WARM_UP) * steps
        rows = []
        for part in [VALIDATION, BANK, TEST, *self.callbacks]:
            measured, *looks = (len(self.list_epochs(part, epochs)) for epochs in (MEASURED, *RUNS))
            rows.append({"what": part, "s": self.seconds[part] / measured, "looks": looks})
            if (in_steps := self.seconds.get(f"{part}{STEPS}")) is not None:
                s = in_steps / self.batches * steps
                rows.append({"what": f"{part}{STEPS}", "s": s, "looks": list(RUNS)})
        Path(self.path).write_text(json.dumps({"steps": steps, "epoch_s": epoch, "rows": rows}))

    def list_epochs(self, part: str, epochs: int) -> set[int]:
        """The epochs of a run in which a part of it runs."""
        if part == BANK:
            return set().union(*(self.list_epochs(name, epochs) for name in self.askers))
        if part in (TEST, *ONCE):
            return {epochs - 1}
        if not hasattr(self.callbacks.get(part), "is_due"):
            return set(range(epochs))
        run = {"max_epochs": epochs, "should_stop": False, "max_steps": -1, "global_step": 0}
        due = self.callbacks[part].is_due
        return {epoch for epoch in range(epochs) if due(SimpleNamespace(current_epoch=epoch, **run))}


def run_with_meter(data_dir: Path, batches: int) -> dict:
    """What the CallbackMeter of a run writes."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "runs_dir": folder,
            "data.init_args.data_dir": data_dir.absolute(),
            "trainer.max_epochs": MEASURED,
            "trainer.limit_train_batches": WARM_UP + batches,
            "trainer.callbacks+": "benchmarks.callbacks_cost.CallbackMeter",
            "trainer.callbacks.path": f"{folder}/costs.json",
            "trainer.enable_progress_bar": "false",
            "without": "[WandbLogger]",
        }
        command = build_fit_command("configs/simclr_cifar10.yaml", options)
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        return json.loads(Path(folder, "costs.json").read_text())


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--batches", type=int, default=30, help="that are measured in each of two epochs")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    costs = run_with_meter(args.data_dir, args.batches)
    print(
        f"an epoch of training: {costs['steps']} steps, {costs['epoch_s']:.0f} s of the processor, ", end=""
    )
    print(f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads, load {read_load()}")
    print(f"{'':<24}{'s a look':>9}" + "".join(f"{f'looks in {n}':>14}{'share':>9}" for n in RUNS))
    for row in costs["rows"]:
        row["shares"] = [
            looks * row["s"] / (n * costs["epoch_s"]) for looks, n in zip(row["looks"], RUNS, strict=True)
        ]
        cells = zip(row["looks"], row["shares"], strict=True)
        print(f"{row['what']:<24}{row['s']:>9.2f}" + "".join(f"{n:>14}{share:>9.2%}" for n, share in cells))
    sums = {
        "probe, kNN, collapse": [row for row in costs["rows"] if row["what"] in MONITORS],
        "all but the protocol": [row for row in costs["rows"] if row["what"] != "Protocol"],
        "all": costs["rows"],
    }
    shares = {
        name: [sum(row["shares"][i] for row in rows) for i in range(len(RUNS))] for name, rows in sums.items()
    }
    for name, of_runs in shares.items():
        print(f"{name:<33}" + "".join(f"{share:>23.2%}" for share in of_runs))
    save_json(args.json, costs | {"shares": shares})


if __name__ == "__main__":
    main()
