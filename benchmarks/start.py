"""From typing `cli.py fit` to the end of the first training step, and what of it is Lightning's import alone.

    python benchmarks/start.py                          # about 2 minutes

Both sides are fresh processes and take turns; medians. The first turn, which reads everything from the disk, is not
counted. cli.py has all default callbacks and loggers; W&B is offline. Seconds of the processor say more than the clock
on a busy machine.
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from time import monotonic, sleep

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import ROOT, build_fit_command, build_parser, count_cores, read_load, save_json


def list_starts(config: Path, folder: Path, stamps: Path) -> dict[str, list[str]]:
    """The command of each side, which stamps a file when it is there."""
    options = {
        "runs_dir": folder,
        "trainer.callbacks+": "benchmarks.epoch.StampSteps",
        "trainer.callbacks.path": stamps,
    }
    bare = "import sys, lightning.pytorch; from benchmarks.turns import stamp_step; stamp_step(sys.argv[1])"
    return {
        "cli.py fit, first step done": build_fit_command(config, options),
        "import lightning.pytorch": [sys.executable, "-c", bare, str(stamps)],
    }


def time_start(command: list[str], stamps: Path) -> tuple[float, float]:
    """Seconds until a program's first stamp, on the clock and of all cores. It is stopped then."""
    cores_before, began = read_child_seconds(), monotonic()
    with stamps.with_suffix(".log").open("w") as log:
        program = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"WANDB_MODE": "offline"},
        )
    ended = False
    while not (stamps.exists() and stamps.read_text().endswith("\n")):
        if ended:
            sys.exit(
                f"{' '.join(command)} ended by itself:\n{stamps.with_suffix('.log').read_text()[-2000:]}"
            )
        ended = program.poll() is not None
        sleep(0.01)
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    return float(stamps.read_text().split()[0]) - began, read_child_seconds() - cores_before


def read_child_seconds() -> float:
    """Seconds of the processor, of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/simclr_digits.yaml"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="count the first turn, too")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    first = 0 if args.warm else 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number in range(first + args.rounds):
            stamps = Path(folder) / f"{number}.txt"
            for name, command in list_starts(args.config, Path(folder), stamps).items():
                times[name].append(time_start(command, stamps))
                stamps.unlink()
    print(f"{args.config}, {count_cores()} cores, load {read_load()}, ", end="")
    print(f"medians of {args.rounds} starts")
    print(f"{'':<30}{'s':>7}{'s of all cores':>17}   (fastest - slowest)")
    results = {}
    for name, turns in times.items():
        clock, cores = (list(column) for column in zip(*turns[first:], strict=True))
        results[name] = {"s": clock, "cores_s": cores}
        print(f"{name:<30}{statistics.median(clock):>7.1f}{statistics.median(cores):>17.1f}", end="")
        print(f"   ({min(clock):.1f} - {max(clock):.1f})")
    save_json(args.json, {"config": str(args.config), "seconds": results})


if __name__ == "__main__":
    main()
