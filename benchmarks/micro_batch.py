"""A training step of SimCLR on a large batch: at once, and with an encoder that reads it in parts (`micro_batch`).

    python benchmarks/micro_batch.py

Each row is a fresh process: the memory that a step needs at most on top of the process's own, the time of the second of
two steps, and its loss, which batch norms over parts change a little. The baseline keeps all activations.
"""

import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.memory import call_in_fresh_process, measure_peak_mb, read_resident_mb
from benchmarks.program import build_parser, print_facts, read_load, save_json
from common.batch import Batch, BatchKey
from ssl_modules.networks.pooled_resnet import PooledResNet
from ssl_modules.simclr import SimCLR

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def measure_step(images: int, size: int | None, norm: str, rounds: int) -> dict[str, float]:
    """MB at most, seconds and the loss of a step, of a batch of two views in float32."""
    torch.manual_seed(0)
    module = SimCLR(encoder=PooledResNet(norm=norm), optimizer=torch.optim.SGD, micro_batch=size).to(DEVICE)
    module.to(memory_format=torch.channels_last)
    views = [torch.randn(images, 3, 32, 32).to(DEVICE, memory_format=torch.channels_last) for _ in range(2)]
    batch = Batch(views, torch.zeros(images), torch.arange(images, device=DEVICE), BatchKey.single(0, images))
    seconds, losses = [], []

    def step() -> None:
        start = time.perf_counter()
        loss = module.training_step(batch, 0)["loss"]
        loss.backward()
        losses.append(loss.item())
        module.zero_grad()
        seconds.append(time.perf_counter() - start)

    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated() / 2**20
        for _ in range(1 + rounds):
            step()
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        before = read_resident_mb("RssAnon")
        peak = measure_peak_mb(step)
        for _ in range(rounds):
            step()
    return {"mb": peak - before, "seconds": statistics.median(seconds[1:]), "loss": losses[0]}


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 256])
    parser.add_argument("--norm", choices=["batch", "group"], default="batch")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    facts = {"device": DEVICE, "threads": torch.get_num_threads(), "load": read_load()}
    print_facts(facts | {"torch": torch.__version__, "images": args.images, "norm": args.norm})
    print(f"{'micro_batch':>12}{'MB at most':>12}{'of all':>8}{'s a step':>10}{'ratio':>7}{'loss':>9}")
    rows = []
    for size in (None, *args.sizes):
        row = {"micro_batch": size}
        row |= call_in_fresh_process(measure_step, args.images, size, args.norm, args.rounds)
        rows.append(row)
        shares = row["mb"] / rows[0]["mb"], row["seconds"] / rows[0]["seconds"]
        print(f"{size or 'all':>12}{row['mb']:>12.0f}{shares[0]:>8.2f}", end="")
        print(f"{row['seconds']:>10.1f}{shares[1]:>7.2f}{row['loss']:>9.4f}", flush=True)
    save_json(args.json, {"about": facts, "rows": rows})


if __name__ == "__main__":
    main()
