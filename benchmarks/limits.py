"""What the machine can do at most, on one core and on all: arithmetic, and a network's forward and backward.

    python benchmarks/limits.py                                  # about 5 minutes
    python benchmarks/limits.py --encoders pooled --seconds 1

Rates of a square matrix product and of a 3x3 convolution (channels_last) in float32 and bf16, in GFLOP/s (a multiply
and an add are two). Then images/s of the encoders that others are compared on, batch after batch on one ready tensor:
no data, no loss, no optimizer, in the memory format that training takes. Everything takes turns, medians.
On a GPU there is one row of it, and float32 is what torch does by default there.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.encoders import NAMES, build_encoder
from benchmarks.program import build_parser, count_cores, print_facts, read_load, save_json
from benchmarks.timing import measure_rate
from common.text import plural

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
Work = tuple[float, Callable[[], object]]  # FLOP or images of a call, and the call


def multiply_matrices(size: int, dtype: torch.dtype) -> Work:
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    return 2 * size**3 / 1e9, lambda: a @ b


def convolve_images(images: int, channels: int, side: int, dtype: torch.dtype) -> Work:
    """As many channels in as out, stride 1."""
    x = torch.randn(images, channels, side, side, device=DEVICE).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=DEVICE).to(dtype, memory_format=torch.channels_last)
    gflop = 2 * 9 * channels**2 * images * side**2 / 1e9
    return gflop, lambda: F.conv2d(x, weight, padding=1)


def train_encoder(name: str, batch: int, dtype: torch.dtype) -> Work:
    """Forward and backward at 32x32; bf16 by autocast, as in training."""
    torch.manual_seed(0)
    encoder = build_encoder(name).to(DEVICE, memory_format=torch.channels_last)
    x = torch.randn(batch, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = encoder(x).square().mean()
        loss.backward()
        encoder.zero_grad()

    return batch, step


def measure_works(
    works: dict[str, Work], threads: list[int], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Median rate of each work for each number of threads."""
    rates: dict[str, list[list[float]]] = {name: [[] for _ in threads] for name in works}
    for number in range(rounds + 1):
        for column, count in enumerate(threads):
            torch.set_num_threads(count)
            for name, (amount, work) in works.items():
                rate = measure_rate(amount, work, seconds if number else 0)
                rates[name][column] += [rate] if number else []  # the first call warms up
    return {name: [statistics.median(column) for column in columns] for name, columns in rates.items()}


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--size", type=int, default=2048, help="side of the matrices")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--encoders", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seconds", type=float, default=2, help="of a turn, at least one call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    threads = [1] if DEVICE == "cuda" else sorted({1, torch.get_num_threads()})
    on_gpu = DEVICE == "cuda"
    device = torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability()
    facts = {"device": device, "cores": count_cores(), "load": read_load(), "torch": torch.__version__}
    print_facts(facts)
    print(f"{args.rounds} turns of {args.seconds:g} s each, medians\n")
    columns = ["the device"] if DEVICE == "cuda" else [plural(n, "core") for n in threads]
    results = {}
    for unit, kinds in {
        "GFLOP/s": {
            f"matrix product {args.size}": lambda dtype: multiply_matrices(args.size, dtype),
            "3x3 convolution, 64 channels of 32x32": lambda dtype: convolve_images(args.batch, 64, 32, dtype),
            "3x3 convolution, 256 channels of 8x8": lambda dtype: convolve_images(args.batch, 256, 8, dtype),
        },
        "images/s": {
            f"{name}, forward and backward, batch {args.batch}": lambda dtype, n=name: train_encoder(
                n, args.batch, dtype
            )
            for name in args.encoders
        },
    }.items():
        works = {
            f"{kind}, {name}": make(dtype) for kind, make in kinds.items() for name, dtype in DTYPES.items()
        }
        results[unit] = measure_works(works, threads, args.seconds, args.rounds)
        print(f"{unit:<54}" + "".join(f"{column:>12}" for column in columns))
        for name, speeds in results[unit].items():
            print(f"{name:<54}" + "".join(f"{speed:>12,.0f}" for speed in speeds), flush=True)
        print()
    save_json(args.json, {"about": facts, "threads": threads, "results": results})


if __name__ == "__main__":
    main()
