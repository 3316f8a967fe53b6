"""Clocks: seconds of a call, of several calls in turns, and calls a second."""

import statistics
import time
from collections.abc import Callable

import torch


def time_call(work: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds by the clock, seconds of all cores, which say more on a busy machine, and what the call returns."""
    start, cores_start = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - cores_start, result


def time_in_turns(
    works: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, object]]:
    """Time calls that take turns.

    Returns:
        For each work its (seconds by the clock, seconds of all cores) in each round after the warm-up; its last result.
    """
    times, results = {name: [] for name in works}, {}
    for _ in range(warm_up + rounds):
        for name, work in works.items():
            clock, cores, results[name] = time_call(work)
            times[name].append((clock, cores))
    return {name: rows[warm_up:] for name, rows in times.items()}, results


def take_medians(rows: list[tuple[float, ...]]) -> list[float]:
    """The median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def measure_rate(amount: float, work: Callable[[], object], seconds: float = 0) -> float:
    """Amount a second, of as many calls as fit, at least one."""
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < seconds:
        work()
        calls += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return amount * calls / (time.perf_counter() - start)
