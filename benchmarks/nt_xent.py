"""NT-Xent, forward and backward: ours against lightly's NTXentLoss, the same projections, time and peak memory.

    python benchmarks/nt_xent.py

Time: both take turns in one process, medians of the rounds. Memory: what a fresh process of each side needs at most on
top of its projections and of what it needed for a batch of 8; on a GPU what torch's allocator counts.
"""

import resource
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.memory import call_in_fresh_process
from benchmarks.program import build_parser, print_facts, read_load, require_lightly, save_json
from benchmarks.timing import time_in_turns
from ssl_modules.losses.contrastive import nt_xent

TEMPERATURE = 0.2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def lightly_loss() -> Callable[[Tensor, Tensor], Tensor]:
    from lightly.loss import NTXentLoss

    return NTXentLoss(TEMPERATURE)


def our_loss() -> Callable[[Tensor, Tensor], Tensor]:
    return partial(nt_xent, temperature=TEMPERATURE)


SIDES = {"ours": our_loss, "lightly": lightly_loss}


def draw_projections(batch: int, dim: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, dim, generator=generator).to(DEVICE).requires_grad_() for _ in range(2)]


def differentiate_loss(loss: Callable[[Tensor, Tensor], Tensor], pair: list[Tensor]) -> tuple[float, Tensor]:
    """The loss and its gradient."""
    value = loss(*pair)
    (gradient, _) = torch.autograd.grad(value, pair)
    return value.item(), gradient


def read_peak_mb() -> float:
    """MB that this process has had at most."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure_losses(side: str, batches: list[int], dim: int) -> list[float]:
    """MB at most, from small batches to large ones, in a process of its own."""
    pairs, loss = [draw_projections(batch, dim) for batch in batches], SIDES[side]()
    differentiate_loss(loss, draw_projections(8, dim))
    before, peaks = read_peak_mb(), []
    for pair in pairs:
        differentiate_loss(loss, pair)
        peaks.append(read_peak_mb() - before)
    return peaks


def compare_losses(batch: int, dim: int, rounds: int) -> dict:
    pair = draw_projections(batch, dim)
    # `item` waits for a GPU
    works = {side: partial(differentiate_loss, make(), pair) for side, make in SIDES.items()}
    times, results = time_in_turns(works, rounds)
    seconds = {side: [clock for clock, _ in rows] for side, rows in times.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["lightly"], strict=True)]
    row = {"batch": batch, "ratio": statistics.median(ratios)}
    row |= {f"{side}_ms": 1e3 * statistics.median(clocks) for side, clocks in seconds.items()}
    (our_value, our_gradient), (value, gradient) = results["ours"], results["lightly"]
    row["loss_apart"] = abs(our_value - value) / value
    return row | {"gradient_apart": ((our_gradient - gradient).norm() / gradient.norm()).item()}


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    require_lightly()
    batches = sorted(args.batches)
    memory = {side: call_in_fresh_process(measure_losses, side, batches, args.dim) for side in SIDES}
    facts = {"device": DEVICE, "threads": torch.get_num_threads(), "load": read_load()}
    facts |= {"torch": torch.__version__, "lightly": version("lightly"), "dim": args.dim}
    print_facts(facts)
    print(f"forward and backward, medians of {args.rounds} rounds; ratio: lightly's by ours\n")
    print(f"{'':>7}{'ms':^29}{'MB at most':^27}  relative difference of")
    print(f"{'batch':>7}" + 2 * f"{'ours':>9}{'lightly':>10}{'ratio':>8}" + f"{'loss':>12}{'gradient':>10}")
    rows = []
    for i, batch in enumerate(batches):
        row = compare_losses(batch, args.dim, args.rounds) | {f"{side}_mb": memory[side][i] for side in SIDES}
        rows.append(row)
        print(f"{batch:>7}{row['ours_ms']:>9.1f}{row['lightly_ms']:>10.1f}{row['ratio']:>8.1f}", end="")
        ratio = row["lightly_mb"] / max(row["ours_mb"], 0.1)
        print(f"{row['ours_mb']:>9.0f}{row['lightly_mb']:>10.0f}{ratio:>8.1f}", end="")
        print(f"{row['loss_apart']:>12.0e}{row['gradient_apart']:>10.0e}", flush=True)
    save_json(args.json, {"about": facts, "rows": rows})


if __name__ == "__main__":
    main()
