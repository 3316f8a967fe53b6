"""How threads should wait for each other: steps a second with the machine to itself, and beside busy programs.

    python benchmarks/threads.py                     # about 12 minutes on 2 cores

libgomp, torch's thread pool on Linux, lets a waiting thread spin for 300,000 rounds before it sleeps (GOMP_SPINCOUNT),
or for none (OMP_WAIT_POLICY=PASSIVE). Spinning is fastest where each thread has a core, and starves the thread that is
waited for where it has none. Each setting trains configs/simclr_digits.yaml through cli.py in a process of its own, in
turns; a ratio is the median of the rounds' ratios. launch/threads.py has the setting that cli.py takes.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import ENDLESS, build_fit_command, build_parser, count_cores, print_facts, save_json
from benchmarks.turns import median_ratio, start_programs, take_turns
from launch.threads import SPIN_COUNT

DEFAULT, PASSIVE, ONE_THREAD = "300000 (default)", "passive", "one thread"
SPINS = [1_000, 3_000, 10_000, 30_000, 100_000]


def list_settings(spins: list[int], config: str, precision: str, folder: Path) -> dict[str, list[str]]:
    """The command of each setting."""
    environments = {DEFAULT: "GOMP_SPINCOUNT=300000", PASSIVE: "OMP_WAIT_POLICY=PASSIVE"}
    environments[ONE_THREAD] = "OMP_NUM_THREADS=1"
    environments |= {str(spin): f"GOMP_SPINCOUNT={spin}" for spin in spins}
    fit = build_fit_command(config, {"runs_dir": folder, "trainer.precision": precision, **ENDLESS})
    return {name: ["env", environment, *fit] for name, environment in environments.items()}


@contextmanager
def run_busy_loops(count: int) -> Iterator[None]:
    """Programs that want a core each, all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def format_comparison(speeds: dict[str, list[float]], name: str, other: str) -> tuple[str, str]:
    """Median steps/s of a setting, and over another's; dashes where one was left out."""
    if name not in speeds:
        return "-", "-"
    speed = f"{statistics.median(speeds[name]):.2f}"
    return speed, f"{median_ratio(speeds[name], speeds[other]):.2f}" if other in speeds else "-"


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--config", default="configs/simclr_digits.yaml")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--spins", type=int, nargs="*", default=SPINS, help="settings of GOMP_SPINCOUNT")
    parser.add_argument("--loops", type=int, default=6, help="busy programs beside")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", type=float, default=12, help="seconds of a turn")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = list_settings(args.spins, args.config, args.precision, Path(folder))
        with start_programs(settings) as programs:
            idle = take_turns(programs, args.turn, args.rounds)
            with run_busy_loops(args.loops):
                busy = take_turns(programs, args.turn, args.rounds)
    facts = {"config": args.config, "precision": args.precision, "cores": count_cores()}
    print_facts(facts)
    print(f"steps/s, medians of {args.rounds} turns of {args.turn:g} s; cli.py sets {SPIN_COUNT}")
    print(f"{'spins':<20}{'alone':>10}{'/ default':>11}{f'beside {args.loops} loops':>18}{'/ passive':>11}")
    for name in idle:
        alone, beside = format_comparison(idle, name, DEFAULT), format_comparison(busy, name, PASSIVE)
        print("{:<20}{:>10}{:>11}{:>18}{:>11}".format(name, *alone, *beside))
    save_json(args.json, facts | {"idle": idle, "busy": busy})


if __name__ == "__main__":
    main()
