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
from pathlib import Path
from time import monotonic, sleep


def stamp(path: str) -> None:
    """Notes now as the end of a step, for the conductor to read."""
    with open(path, "a") as file:
        file.write(f"{monotonic()}\n")


def rates(commands: dict[str, list[str]], turn: float, rounds: int, cwd: Path) -> dict[str, list[float]]:
    """Steps per second of each program, in each round.

    Args:
        commands: name -> command; `STAMPS` in it becomes the path of the file that it stamps. Runs until killed.
        turn: seconds of a turn.
        rounds: turns of each program.
        cwd: working directory of the programs.
    """
    programs: dict[str, subprocess.Popen] = {}
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{i}.txt" for i, name in enumerate(commands)}
        logs = {name: Path(folder) / f"{i}.log" for i, name in enumerate(commands)}
        try:
            for name, command in commands.items():
                words = [word.replace("STAMPS", str(files[name])) for word in command]
                with logs[name].open("w") as log:
                    programs[name] = subprocess.Popen(
                        words, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
                while len(_stamps(files[name])) < 4:  # first steps are slow
                    _check_alive(name, programs[name], logs[name])
                    sleep(0.2)
                os.killpg(programs[name].pid, signal.SIGSTOP)
            for _ in range(rounds):
                for name, program in programs.items():
                    began = monotonic()
                    os.killpg(program.pid, signal.SIGCONT)
                    sleep(turn)
                    os.killpg(program.pid, signal.SIGSTOP)
                    _check_alive(name, program, logs[name])
                    ends = [t for t in _stamps(files[name]) if began < t]
                    if len(ends) < 3:
                        sys.exit(
                            f"{name}: {len(ends)} steps in a turn of {turn:g} s, give --turn more seconds"
                        )
                    found[name].append((len(ends) - 1) / (ends[-1] - ends[0]))
        finally:
            for program in programs.values():
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
                    program.wait()
    return found


def ratio(mine: list[float], theirs: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def _stamps(file: Path) -> list[float]:
    """Times of complete lines."""
    if not file.exists():
        return []
    return [float(line) for line in file.read_text().rpartition("\n")[0].splitlines()]


def _check_alive(name: str, program: subprocess.Popen, log: Path) -> None:
    if program.poll() is not None:
        sys.exit(f"{name} ended by itself:\n{log.read_text()[-2000:]}")
