"""Programs that train, compared in turns: one runs with the whole machine while the others are stopped.

A machine's speed drifts by far more than what is compared, so minutes-long runs one after the other say little. Turns
of seconds put every drift on both sides. Each program writes the time of every step's end to a file.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from benchmarks.program import ROOT

FIRST_STEPS = 4  # are slow: a program takes part from then on
PATIENCE = 180  # seconds for them


def stamp_step(path: str) -> None:
    """Notes now as the end of a step, for the conductor to read."""
    with open(path, "a") as file:
        file.write(f"{monotonic()}\n")


@dataclass
class Program:
    """A program that trains until it is killed, with all that it has started."""

    name: str
    process: subprocess.Popen
    stamps: Path
    log: Path

    def step_ends(self) -> list[float]:
        """Times of complete lines."""
        if not self.stamps.exists():
            return []
        return [float(line) for line in self.stamps.read_text().rpartition("\n")[0].splitlines()]

    def send_signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            sys.exit(f"{self.name} ended by itself:\n{self.log.read_text()[-2000:]}")

    def kill_group(self) -> None:
        if self.process.poll() is None:
            self.send_signal(signal.SIGKILL)
            self.process.wait()

    def leave_out(self, reason: str) -> None:
        print(f"{self.name}: {reason}: left out", flush=True)
        self.kill_group()


@contextmanager
def start_programs(
    commands: dict[str, list[str]], at_once: bool = False, patience: float = PATIENCE
) -> Iterator[list[Program]]:
    """Programs that have made their first steps and are stopped; killed at the end.

    Args:
        commands: name -> command; `STAMPS` in it becomes the path of the file that it stamps. Runs until killed.
        at_once: start them side by side, where there are cores for all.
        patience: seconds for the first steps; a program that is slower is left out, and a line says so.
    """
    programs = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            for number, (name, command) in enumerate(commands.items()):
                stamps, log = (Path(folder) / f"{number}.{kind}" for kind in ("txt", "log"))
                words = [word.replace("STAMPS", str(stamps)) for word in command]
                with log.open("w") as file:
                    process = subprocess.Popen(
                        words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                    )
                programs.append(Program(name, process, stamps, log))
                if not at_once:
                    stop_after_first_steps(programs[-1:], patience)
            stop_after_first_steps(programs if at_once else [], patience)
            yield [program for program in programs if program.process.poll() is None]
        finally:
            for program in programs:
                program.kill_group()


def stop_after_first_steps(programs: list[Program], patience: float) -> None:
    waiting, began = list(programs), monotonic()
    while waiting:
        for program in list(waiting):
            program.check_alive()
            steps, too_late = len(program.step_ends()), monotonic() - began > patience
            if steps >= FIRST_STEPS:
                program.send_signal(signal.SIGSTOP)
                waiting.remove(program)
            elif too_late:
                program.leave_out(f"{steps} steps in the first {patience:g} s")
                waiting.remove(program)
        sleep(0.2)


def take_turns(programs: list[Program], turn: float, rounds: int) -> dict[str, list[float]]:
    """Steps per second of each program in each round; one without three steps in a turn is left out.

    Args:
        programs: stopped, as `start_programs` yields them.
        turn: seconds of a turn.
        rounds: turns of each program.
    """
    speeds: dict[str, list[float]] = {program.name: [] for program in programs}
    for _ in range(rounds):
        for program in programs:
            if program.name not in speeds:
                continue
            began = monotonic()
            program.send_signal(signal.SIGCONT)
            sleep(turn)
            program.send_signal(signal.SIGSTOP)
            program.check_alive()
            ends = [end for end in program.step_ends() if began < end]
            if len(ends) < 3:
                program.leave_out(f"{len(ends)} steps in a turn of {turn:g} s (--turn takes more)")
                del speeds[program.name]
            else:
                speeds[program.name].append((len(ends) - 1) / (ends[-1] - ends[0]))
    return speeds


def measure_speeds(commands: dict[str, list[str]], turn: float, rounds: int) -> dict[str, list[float]]:
    """Steps per second of each program, in each round; arguments as of `start_programs` and `take_turns`."""
    with start_programs(commands) as programs:
        return take_turns(programs, turn, rounds)


def median_ratio(mine: list[float], theirs: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def print_ratios(
    speeds: dict[str, list[float]], ours: str, descriptions: dict[str, str], unit: str, digits: int = 0
) -> dict[str, float]:
    """A line for each side with its median speed and how often it goes into ours; those left out have dashes.

    Returns:
        Side -> median over the rounds of our speed over its.
    """
    ratios = {side: median_ratio(speeds[ours], speeds[side]) for side in speeds if ours in speeds}
    width = max(map(len, descriptions)) + 2
    for side, description in descriptions.items():
        speed = f"{statistics.median(speeds[side]):>9.{digits}f}" if side in speeds else f"{'-':>9}"
        times = f"{ratios[side]:>6.2f}" if side in ratios else f"{'-':>6}"
        print(f"  {side:<{width}}{speed} {unit}   {ours} / this:{times}   {description}", flush=True)
    return ratios
