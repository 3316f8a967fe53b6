"""Training epochs of SimCLR at 32x32 through cli.py, beside lightly's own example and the bare arithmetic.

    python benchmarks/epoch.py                       # three encoders, about 18 minutes on 2 cores
    python benchmarks/epoch.py --encoders resnet18 --turn 60
    python benchmarks/epoch.py --encoders resnet18 --batch 512 --sides cli.py resident compiled bare "lightly bf16"

Every side trains the same encoder with the same batch size in a process of its own, epoch after epoch; the time between
epochs counts. The sides take turns of `--turn` seconds, each with the whole machine to itself, on a GPU where there is
one. A ratio is the median over the rounds. "lightly" is the SimCLR example of lightly's documentation: its transform,
loss and head, and a DataLoader with one worker for each core. "bare" is forward, loss and backward on one ready batch.
"""

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.drawn_images import write_block_images
from benchmarks.encoders import NAMES, build_encoder, encoder_options
from benchmarks.program import ENDLESS, build_fit_command, build_parser, save_json
from benchmarks.turns import PATIENCE, print_ratios, stamp_step, start_programs, take_turns

RESIDENT = ["--data.init_args.resident=true"]
COMPILED = ["--model.init_args.compile=true", "--data.init_args.compile=true"]
SIDES = {
    "cli.py": "configs/simclr_cifar10.yaml: augmentation, online probe, logging, checkpoints",
    "resident": "cli.py with images that stay on the GPU",
    "compiled": "resident, with compiled networks and augmentation",
    "bare": "forward and backward on a ready batch, our precision and memory format",
    "lightly": "lightly's example, its default precision (32-true)",
    "lightly bf16": "lightly's example with Lightning's precision=bf16-mixed",
}


class StampSteps(Callback):
    """Stamps the end of every training step into a file."""

    def __init__(self, path: str):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        stamp_step(self.path)


def write_cifar10(folder: Path, images: int) -> None:
    write_block_images(folder / "cifar10", {"train": images, "test": 100}, cells=8, pixels=4)


def list_simclr_sides(encoder: str, batch: int, data: Path, precision: str) -> dict[str, list[str]]:
    """List the command of each side."""
    options = {
        "runs_dir": data / "runs",
        "data.init_args.data_dir": data,
        "data.init_args.batch_size": batch,
        **encoder_options(encoder),
        "trainer.precision": precision,
        **ENDLESS,
    }
    fit = build_fit_command("configs/simclr_cifar10.yaml", options)

    def build_command(program: str, precision: str) -> list[str]:
        return [sys.executable, __file__, program, encoder, str(batch), str(data), precision, "STAMPS"]

    return {
        "cli.py": fit,
        "resident": fit + RESIDENT,
        "compiled": fit + RESIDENT + COMPILED,
        "bare": build_command("bare", precision),
        "lightly": build_command("lightly", "32-true"),
        "lightly bf16": build_command("lightly", "bf16-mixed"),
    }


def run_bare_loop(encoder: str, batch: str, data: str, precision: str, path: str) -> None:
    """Train on one random batch forever; `data` is not read."""
    import torch

    from ssl_modules.losses.contrastive import nt_xent
    from ssl_modules.networks.mlp import mlp

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_encoder(encoder)
    model = torch.nn.Sequential(network, mlp(network.dim, 512, 128))
    model = model.to(device, memory_format=torch.channels_last)
    views = torch.randn(2 * int(batch), 3, 32, 32, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    while True:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            z1, z2 = model(views).chunk(2)
            loss = nt_xent(z1, z2, 0.2)
        loss.backward()
        model.zero_grad()
        stamp_step(path)


def run_lightly(encoder: str, batch: str, data: str, precision: str, path: str) -> None:
    import numpy as np

    from benchmarks.lightly_simclr import train_lightly

    images = np.load(f"{data}/cifar10/train_images.npy")
    train_lightly(build_encoder(encoder), images, int(batch), precision, StampSteps(path), 10_000)


PROGRAMS = {"bare": run_bare_loop, "lightly": run_lightly}  # `compare_epochs` starts them from this file


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--encoders", nargs="+", choices=NAMES, default=["pooled", "wide3", "resnet20"])
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=["cli.py", "bare", "lightly", "lightly bf16"]
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=12, help="seconds of a turn")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--at_once", action="store_true", help="start all sides at once, on many cores")
    help_text = "seconds to wait for a side's first steps before it is left out"
    parser.add_argument("--patience", type=float, default=PATIENCE, help=help_text)
    parser.add_argument("--json", type=Path)
    compare_epochs(parser.parse_args())


def compare_epochs(args: argparse.Namespace) -> None:
    from launch.precision import fast_precision

    precision, results = fast_precision(), {}
    if not find_spec("lightly"):
        args.sides = [side for side in args.sides if not side.startswith("lightly")]
        print("lightly is not installed and is left out: pip install -e .[bench]")
    for encoder in args.encoders:
        with tempfile.TemporaryDirectory() as folder:
            write_cifar10(Path(folder), args.images)
            sides = list_simclr_sides(encoder, args.batch, Path(folder), precision)
            commands = {side: sides[side] for side in args.sides}
            with start_programs(commands, args.at_once, args.patience) as programs:
                steps_per_s = take_turns(programs, args.turn, args.rounds)
        speeds = {side: [args.batch * rate for rate in rates] for side, rates in steps_per_s.items()}
        turns = f"{args.rounds} turns of {args.turn:g} s each"
        print(f"\n{encoder}, batch {args.batch}, {precision}, {turns}, medians")
        ratios = print_ratios(speeds, "cli.py", {side: SIDES[side] for side in args.sides}, "images/s")
        results[encoder] = {"images_per_s": speeds, "cli_over": ratios}
        save_json(args.json, {"precision": precision, "batch": args.batch, "results": results})


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in PROGRAMS:
        PROGRAMS[sys.argv[1]](*sys.argv[2:])
    else:
        main()
