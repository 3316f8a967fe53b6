"""Memory of this process, and fresh processes to measure it in."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

STATUS = Path("/proc/self/status")  # Linux has it


def read_resident_mb(kind: str) -> float:
    """MB of this process: RssAnon is its own, RssFile are pages of files."""
    return int(STATUS.read_text().split(f"{kind}:")[1].split()[0]) / 1024


def measure_peak_mb(work: Callable[[], object]) -> float:
    """MB of its own that this process has at most during a call."""
    readings, done = [read_resident_mb("RssAnon")], threading.Event()

    def read_until_done() -> None:
        while not done.wait(0.02):
            readings.append(read_resident_mb("RssAnon"))

    reader = threading.Thread(target=read_until_done)
    reader.start()
    work()
    done.set()
    reader.join()
    return max(readings)


def call_in_fresh_process(function: Callable, *args: object) -> object:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
