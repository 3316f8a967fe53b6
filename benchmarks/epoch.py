"""Training epochs of SimCLR at 32x32 through cli.py, beside lightly's own example and the bare arithmetic.

    python benchmarks/epoch.py                       # three encoders, about 18 minutes on 2 cores
    python benchmarks/epoch.py --encoders resnet18 --turn 60

Every side trains the same encoder with batch 256 in a process of its own, epoch after epoch (what happens between two
epochs counts), in turns of `--turn` seconds with the whole machine; a ratio is the median of the rounds' ratios.
Peer: the SimCLR example of lightly's documentation (its transform, loss, head and a DataLoader with 2 workers). Bare:
forward, loss and backward on one ready batch.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks import encoders
from benchmarks.turns import rates, ratio, stamp

ROOT = Path(__file__).parents[1]
BATCH = 256
SIDES = {
    "cli.py": "configs/simclr_cifar10.yaml: augmentation, online probe, logging, checkpoints",
    "bare": "forward and backward on a ready batch, our precision and memory format",
    "lightly": "lightly's example, its default precision (32-true)",
    "lightly bf16": "lightly's example with Lightning's precision=bf16-mixed",
}


class StampSteps(Callback):
    """Notes the end of every training step."""

    def __init__(self, path: str):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        stamp(self.path)


def make_data(folder: Path, images: int) -> None:
    """Smooth random colour images in the array layout: content does not matter for speed."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (images, 8, 8, 3), np.uint8)
    pictures = coarse.repeat(4, axis=1).repeat(4, axis=2)
    (folder / "cifar10").mkdir()
    for split, count in (("train", images), ("test", 100)):
        np.save(folder / f"cifar10/{split}_images.npy", pictures[:count])
        np.save(folder / f"cifar10/{split}_labels.npy", np.arange(count) % 10)


def commands(encoder: str, data: Path, precision: str) -> dict[str, list[str]]:
    """What each side runs."""
    ours = [sys.executable, "cli.py", "fit", "--config", "configs/simclr_cifar10.yaml"]
    options = {
        "runs_dir": data / "runs",
        "data.init_args.data_dir": data,
        **encoders.options(encoder),
        "trainer.max_epochs": 10_000,
        "trainer.precision": precision,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks+": "benchmarks.epoch.StampSteps",
        "trainer.callbacks.path": "STAMPS",
        "without": "[Protocol,WandbLogger]",
    }
    for name, value in options.items():
        ours += [f"--{name}", str(value)]

    def own(side: str, precision: str) -> list[str]:
        return [sys.executable, __file__, side, encoder, str(data), precision, "STAMPS"]

    return {
        "cli.py": ours,
        "bare": own("bare", precision),
        "lightly": own("lightly", "32-true"),
        "lightly bf16": own("lightly", "bf16-mixed"),
    }


def bare(encoder: str, data: str, precision: str, path: str) -> None:
    """Ready batches, so no data."""
    import torch

    from ssl_modules.losses.contrastive import nt_xent
    from ssl_modules.networks.mlp import mlp

    torch.manual_seed(0)
    network = encoders.build(encoder)
    model = torch.nn.Sequential(network, mlp(network.dim, 512, 128))
    model = model.to(memory_format=torch.channels_last)
    views = torch.randn(2 * BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            z1, z2 = model(views).chunk(2)
            loss = nt_xent(z1, z2, 0.2)
        loss.backward()
        model.zero_grad()
        stamp(path)


def lightly(encoder: str, data: str, precision: str, path: str) -> None:
    from benchmarks.lightly_simclr import train

    images = np.load(f"{data}/cifar10/train_images.npy")
    train(encoders.build(encoder), images, BATCH, precision, StampSteps(path), 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoders", nargs="+", choices=encoders.NAMES, default=["pooled", "wide3", "resnet20"]
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=12, help="seconds of a turn")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    compare(args.encoders, args.images, args.turn, args.rounds, args.json)


def compare(names: list[str], images: int, turn: float, rounds: int, json_path: Path | None) -> None:
    from launch.trainer import fast_precision

    precision, results = fast_precision(), {}
    for encoder in names:
        with tempfile.TemporaryDirectory() as folder:
            make_data(Path(folder), images)
            steps = rates(commands(encoder, Path(folder), precision), turn, rounds, ROOT)
        speeds = {side: [BATCH * r for r in found] for side, found in steps.items()}
        ratios = {side: ratio(speeds["cli.py"], speeds[side]) for side in SIDES}
        print(f"\n{encoder}, batch {BATCH}, {precision}, {rounds} turns of {turn:g} s each, medians")
        for side, what in SIDES.items():
            speed = f"{statistics.median(speeds[side]):>8.0f} images/s"
            print(f"  {side:<14}{speed}   cli.py / this: {ratios[side]:>5.2f}   {what}", flush=True)
        results[encoder] = {"images_per_s": speeds, "cli_over": ratios}
    if json_path:
        json_path.write_text(json.dumps({"precision": precision, "results": results}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] in (["bare"], ["lightly"]):  # a program that `compare` has started
        {"bare": bare, "lightly": lightly}[sys.argv[1]](*sys.argv[2:])
    else:
        main()
