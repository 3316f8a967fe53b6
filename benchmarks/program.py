"""What the benchmarks' programs share: the command line, the line about the machine, the JSON file and `cli.py fit`."""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENDLESS = {  # options of `cli.py fit` for a program of `turns.start_programs`
    "trainer.max_epochs": 10_000,
    "trainer.limit_val_batches": 0,
    "trainer.callbacks+": "benchmarks.epoch.StampSteps",
    "trainer.callbacks.path": "STAMPS",
    "without": "[Protocol,WandbLogger]",
}


def build_parser(docstring: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def require_lightly() -> None:
    """End the program where lightly is not installed."""
    if not find_spec("lightly"):
        sys.exit("this benchmark compares with lightly, which is not installed: pip install -e .[bench]")


def build_fit_command(config: str | Path, options: dict[str, object]) -> list[str]:
    """The command of `cli.py fit`, for a program that runs in ROOT."""
    return [sys.executable, "cli.py", "fit", f"--config={config}", *format_cli_options(options)]


def format_cli_options(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def read_load() -> float:
    """Mean number of running processes in the last minute; far above the cores, measure again."""
    return round(os.getloadavg()[0], 1)


def print_facts(facts: dict[str, object], title: str = "") -> None:
    print(title + ", ".join(f"{name} {value}" for name, value in facts.items()))


def save_json(path: Path | None, numbers: dict) -> None:
    """Write the numbers where `--json` says, if it is given."""
    if path:
        path.write_text(json.dumps(numbers, indent=1) + "\n")
