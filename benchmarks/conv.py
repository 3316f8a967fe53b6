"""Weight gradient of a 3x3 convolution in bf16 on the CPU: PyTorch's against ours, by the side of the output.

    python benchmarks/conv.py

ssl_modules/networks/conv.py takes ours on CPUs with bf16 matrix units where the output has fewer pixels than channels.
Channels double as the side halves, as in a ResNet; 512 images; the two take turns, medians.
"""

import sys
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import build_parser, save_json
from benchmarks.timing import take_medians, time_in_turns
from ssl_modules.networks.conv import weight_gradient


def time_weight_gradients(
    channels: int, side: int, stride: int, images: int, repeats: int
) -> tuple[float, float]:
    """Milliseconds: PyTorch's, ours."""
    x = torch.randn(images, channels // stride, side * stride, side * stride).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    shape = (channels, channels // stride, 3, 3)
    grad = torch.randn(images, channels, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    works = {
        "library": lambda: torch.nn.grad.conv2d_weight(x, shape, grad, stride, 1),
        "ours": lambda: weight_gradient(x, grad, 3, stride, 1),
    }
    times, _ = time_in_turns(works, repeats - 2, warm_up=2)
    return tuple(1e3 * take_medians(rows)[0] for rows in times.values())


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    units, rows = torch.cpu.get_capabilities().get("amx_bf16", False), []
    print(f"bf16 matrix units: {units}")
    print(f"{'channels':>10}{'output':>8}{'stride':>8}{'PyTorch ms':>12}{'ours ms':>9}{'ratio':>7}  taken")
    for base, side, stride in product((16, 64), (16, 8, 4, 2), (1, 2)):
        channels = base * 16 // side
        library, ours = time_weight_gradients(channels, side, stride, args.images, args.repeats)
        taken = side * side < channels
        sides = f"{side}x{side}"
        print(
            f"{channels:>10}{sides:>8}{stride:>8}{library:>12.1f}{ours:>9.1f}{library / ours:>7.2f}", end=""
        )
        print("  yes" * taken)
        rows.append(
            {"channels": channels, "side": side, "stride": stride, "taken": taken}
            | {"library_ms": library, "ours_ms": ours}
        )
    save_json(args.json, {"amx_bf16": units, "rows": rows})


if __name__ == "__main__":
    main()
