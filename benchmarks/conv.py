"""Weight gradient of a 3x3 convolution in bf16 on the CPU: PyTorch's against ours, by the side of the output.

    python benchmarks/conv.py

ssl_modules/networks/conv.py takes ours on CPUs with bf16 matrix units where the output has fewer pixels than channels.
Channels double as the side halves, as in a ResNet; 512 images; the two take turns, medians.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from ssl_modules.networks.conv import weight_gradient


def compare(channels: int, side: int, stride: int, images: int, repeats: int) -> tuple[float, float]:
    """Milliseconds: PyTorch's, ours."""
    x = torch.randn(images, channels // stride, side * stride, side * stride).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    shape = (channels, channels // stride, 3, 3)
    grad = torch.randn(images, channels, side, side).bfloat16().contiguous(memory_format=torch.channels_last)

    def library() -> None:
        torch.nn.grad.conv2d_weight(x, shape, grad, stride, 1)

    def products() -> None:
        weight_gradient(x, grad, 3, stride, 1)

    seconds = {library: [], products: []}
    for _ in range(repeats):
        for contestant, found in seconds.items():
            start = time.perf_counter()
            contestant()
            found.append(time.perf_counter() - start)
    return tuple(1e3 * statistics.median(found[2:]) for found in seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    units, rows = torch.cpu.get_capabilities().get("amx_bf16", False), []
    print(f"bf16 matrix units: {units}")
    print(f"{'channels':>10}{'output':>8}{'stride':>8}{'PyTorch ms':>12}{'ours ms':>9}{'ratio':>7}  taken")
    for base in (16, 64):
        for side in (16, 8, 4, 2):
            for stride in (1, 2):
                channels = base * 16 // side
                library, products = compare(channels, side, stride, args.images, args.repeats)
                sides = f"{side}x{side}"
                row = f"{channels:>10}{sides:>8}{stride:>8}{library:>12.1f}{products:>9.1f}{library / products:>7.2f}"
                taken = side * side < channels
                print(row + "  yes" * taken)
                rows.append(
                    {"channels": channels, "side": side, "stride": stride, "taken": taken}
                    | {"library_ms": library, "ours_ms": products}
                )
    if args.json:
        args.json.write_text(json.dumps({"amx_bf16": units, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
