"""NT-Xent, forward and backward: ours against lightly's NTXentLoss, the same projections, time and peak memory.

    python benchmarks/nt_xent.py

Time: both take turns in one process, medians of the rounds. Memory: what a fresh process of each side needs at most on
top of its projections and of what it needed for a batch of 8; on a GPU what torch's allocator counts.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from ssl_modules.losses.contrastive import nt_xent

TEMPERATURE = 0.2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def lightly_loss() -> Callable[[Tensor, Tensor], Tensor]:
    from lightly.loss import NTXentLoss

    return NTXentLoss(TEMPERATURE)


def our_loss() -> Callable[[Tensor, Tensor], Tensor]:
    return partial(nt_xent, temperature=TEMPERATURE)


SIDES = {"ours": our_loss, "lightly": lightly_loss}


def projections(batch: int, dim: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, dim, generator=generator).to(DEVICE).requires_grad_() for _ in range(2)]


def step(loss: Callable[[Tensor, Tensor], Tensor], pair: list[Tensor]) -> tuple[float, Tensor]:
    """The loss and its gradient."""
    value = loss(*pair)
    (gradient, _) = torch.autograd.grad(value, pair)
    return value.item(), gradient


def most() -> float:
    """MB that this process has had at most."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peaks(side: str, batches: list[int], dim: int) -> list[float]:
    """MB at most, from small batches to large ones, in a process of its own."""
    pairs, loss = [projections(batch, dim) for batch in batches], SIDES[side]()
    step(loss, projections(8, dim))
    before, found = most(), []
    for pair in pairs:
        step(loss, pair)
        found.append(most() - before)
    return found


def compare(batch: int, dim: int, rounds: int) -> dict:
    pair, losses = projections(batch, dim), {side: make() for side, make in SIDES.items()}
    seconds, values, gradients = {side: [] for side in SIDES}, {}, {}
    for _ in range(rounds + 1):  # the first warms up
        for side, loss in losses.items():
            start = time.perf_counter()
            values[side], gradients[side] = step(loss, pair)  # `item` waits for a GPU
            seconds[side].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(seconds["ours"][1:], seconds["lightly"][1:], strict=True)]
    row = {"batch": batch, "ratio": statistics.median(ratios)}
    row |= {f"{side}_ms": 1e3 * statistics.median(found[1:]) for side, found in seconds.items()}
    row["loss_apart"] = abs(values["ours"] - values["lightly"]) / values["lightly"]
    apart = (gradients["ours"] - gradients["lightly"]).norm() / gradients["lightly"].norm()
    return row | {"gradient_apart": apart.item()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    try:
        import lightly
    except ImportError:
        sys.exit("this benchmark compares with lightly, which is not installed: pip install -e .[bench]")
    batches = sorted(args.batches)
    memory = {}
    for side in SIDES:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            memory[side] = fresh.submit(peaks, side, batches, args.dim).result()
    about = {"device": DEVICE, "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}
    about |= {"torch": torch.__version__, "lightly": lightly.__version__, "dim": args.dim}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"forward and backward, medians of {args.rounds} rounds; ratio: lightly's by ours\n")
    print(f"{'':>7}{'ms':^29}{'MB at most':^27}  relative difference of")
    print(f"{'batch':>7}" + 2 * f"{'ours':>9}{'lightly':>10}{'ratio':>8}" + f"{'loss':>12}{'gradient':>10}")
    rows = []
    for i, batch in enumerate(batches):
        row = compare(batch, args.dim, args.rounds) | {f"{side}_mb": memory[side][i] for side in SIDES}
        rows.append(row)
        print(f"{batch:>7}{row['ours_ms']:>9.1f}{row['lightly_ms']:>10.1f}{row['ratio']:>8.1f}", end="")
        ratio = row["lightly_mb"] / max(row["ours_mb"], 0.1)
        print(f"{row['ours_mb']:>9.0f}{row['lightly_mb']:>10.0f}{ratio:>8.1f}", end="")
        print(f"{row['loss_apart']:>12.0e}{row['gradient_apart']:>10.0e}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
