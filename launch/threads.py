"""How torch's threads wait for each other. Imports nothing heavy: it must run before torch is imported."""

from collections.abc import MutableMapping

SPIN_COUNT = 3_000  # benchmarks/threads.py compares


def set_spin_count(environment: MutableMapping[str, str]) -> None:
    """Let a waiting thread of libgomp spin for some hundredths of a millisecond before it sleeps, not for milliseconds.

    Threads that spin keep the one that they wait for off a busy core. What the user has set stays.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
