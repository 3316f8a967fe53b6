"""From typing `cli.py fit` to the end of the first training step, and what of it is Lightning's import alone.

    python benchmarks/start.py                          # about 2 minutes

Both sides are fresh processes and take turns; medians. The first turn, which reads everything from the disk, is not
counted. cli.py has all default callbacks and loggers; W&B is offline. Seconds of the processor say more than the clock
on a busy machine.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).parents[1]


def commands(config: Path, folder: Path) -> dict[str, list[str]]:
    """What each side runs; `STAMPS` becomes the file that it writes when it is there."""
    fit = [sys.executable, "cli.py", "fit", "--config", str(config), "--runs_dir", str(folder)]
    fit += ["--trainer.callbacks+", "benchmarks.epoch.StampSteps", "--trainer.callbacks.path", "STAMPS"]
    bare = "import sys, lightning.pytorch; from benchmarks.turns import stamp; stamp(sys.argv[1])"
    return {
        "cli.py fit, first step done": fit,
        "import lightning.pytorch": [sys.executable, "-c", bare, "STAMPS"],
    }


def start(command: list[str], stamps: Path) -> tuple[float, float]:
    """Seconds until a program's first stamp, on the clock and of all cores. It is stopped then."""
    words = [str(stamps) if word == "STAMPS" else word for word in command]
    before, began = busy(), monotonic()
    with stamps.with_suffix(".log").open("w") as log:
        program = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"WANDB_MODE": "offline"},
        )
    ended = False
    while not (stamps.exists() and stamps.read_text().endswith("\n")):
        if ended:
            sys.exit(f"{' '.join(words)} ended by itself:\n{stamps.with_suffix('.log').read_text()[-2000:]}")
        ended = program.poll() is not None
        sleep(0.01)
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    return float(stamps.read_text().split()[0]) - began, busy() - before


def busy() -> float:
    """Seconds of the processor, of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/simclr_digits.yaml"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="count the first turn, too")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    first = 0 if args.warm else 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sides = commands(args.config, Path(folder))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for number in range(first + args.rounds):
            for i, (name, command) in enumerate(sides.items()):
                found[name].append(start(command, Path(folder) / f"{number}_{i}.txt"))
    print(f"{args.config}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"medians of {args.rounds} starts")
    print(f"{'':<30}{'s':>7}{'s of all cores':>17}   (fastest - slowest)")
    results = {}
    for name, turns in found.items():
        clock, cores = (list(column) for column in zip(*turns[first:], strict=True))
        results[name] = {"s": clock, "cores_s": cores}
        print(f"{name:<30}{statistics.median(clock):>7.1f}{statistics.median(cores):>17.1f}", end="")
        print(f"   ({min(clock):.1f} - {max(clock):.1f})")
    if args.json:
        args.json.write_text(json.dumps({"config": str(args.config), "seconds": results}, indent=1))


if __name__ == "__main__":
    main()
