"""A training epoch of SimCLR at 32x32 through cli.py, beside lightly's own example and the bare arithmetic.

    python benchmarks/epoch.py                       # wide3 and resnet20, about 15 minutes on 2 cores
    python benchmarks/epoch.py --presets wide3 --rounds 1

Every side trains the same encoder with batch 256 for two epochs in a process of its own; the second epoch counts.
Rounds interleave the sides, the median is shown. Peer: the SimCLR example of lightly's documentation (its transform,
loss, head and a DataLoader with 2 workers) on Lightning's Trainer. Bare: forward, loss and backward on one ready batch.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
SIDES = {
    "cli.py": "ours, as configs/simclr_cifar10.yaml (online probe and logging on)",
    "bare": "forward and backward on a ready batch, our precision and memory format",
    "lightly": "lightly's example, its default precision (32-true)",
    "lightly bf16": "lightly's example with Lightning's precision=bf16-mixed",
}


def make_data(folder: Path, images: int) -> None:
    """Smooth random colour images in the array layout: content does not matter for speed."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (images, 8, 8, 3), np.uint8)
    pictures = coarse.repeat(4, axis=1).repeat(4, axis=2)
    (folder / "cifar10").mkdir()
    for split, count in (("train", images), ("test", 100)):
        np.save(folder / f"cifar10/{split}_images.npy", pictures[:count])
        np.save(folder / f"cifar10/{split}_labels.npy", np.arange(count) % 10)


def ours(preset: str, data: Path, precision: str) -> float:
    with tempfile.TemporaryDirectory() as runs:
        command = [
            sys.executable,
            "cli.py",
            "fit",
            "--config",
            "configs/simclr_cifar10.yaml",
            "--runs_dir",
            runs,
        ]
        command += [
            "--data.init_args.data_dir",
            str(data),
            "--model.init_args.encoder.init_args.preset",
            preset,
        ]
        command += [
            "--trainer.max_epochs",
            "2",
            "--trainer.precision",
            precision,
            "--test_after_fit",
            "false",
        ]
        command += ["--without", "[Protocol,WandbLogger]", "--trainer.limit_val_batches", "0"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        rows = list(csv.DictReader((Path(runs) / "simclr_cifar10/version_0/metrics.csv").open()))
    return [float(row["train/images_per_s"]) for row in rows if row["train/images_per_s"]][-1]


def child(side: str, preset: str, data: Path, precision: str) -> float:
    """images/s of a side that this file implements, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--presets", preset, "--data", str(data)]
    done = subprocess.run(
        [*command, "--precision", precision], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def bare(preset: str, precision: str) -> float:
    from time import perf_counter

    import torch

    from ssl_modules.losses.contrastive import nt_xent
    from ssl_modules.networks.mlp import mlp
    from ssl_modules.networks.resnet import ResNet

    torch.manual_seed(0)
    model = torch.nn.Sequential(ResNet(preset), mlp(ResNet(preset).dim, 512, 128))
    model = model.to(memory_format=torch.channels_last)
    views = torch.randn(512, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(12):
        start = perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            z1, z2 = model(views).chunk(2)
            loss = nt_xent(z1, z2, 0.2)
        loss.backward()
        model.zero_grad()
        times.append(perf_counter() - start)
    return 256 / statistics.median(times[4:])


def peer(preset: str, data: Path, precision: str) -> float:
    """lightly's documented SimCLR example with our encoder. https://docs.lightly.ai/self-supervised-learning/examples/simclr.html"""
    import lightning.pytorch as pl
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform
    from PIL import Image

    from callbacks.throughput import Throughput
    from ssl_modules.networks.resnet import ResNet

    class Example(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = ResNet(preset)
            self.projection_head = SimCLRProjectionHead(self.backbone.dim, 512, 128)
            self.criterion = NTXentLoss()

        def training_step(self, batch, batch_idx):
            (x0, x1), _ = batch
            z0, z1 = (self.projection_head(self.backbone(x)) for x in (x0, x1))
            return self.criterion(z0, z1)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    class Pictures(torch.utils.data.Dataset):
        def __init__(self):
            self.images = np.load(data / "cifar10/train_images.npy")
            self.transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            return self.transform(Image.fromarray(self.images[i])), 0

    class Speed(Throughput):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, module, outputs, (None, batch[1]), batch_idx)

    loader = torch.utils.data.DataLoader(
        Pictures(), batch_size=256, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision=precision,
        callbacks=[Speed()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Example(), loader)
    return float(trainer.callback_metrics["train/images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["wide3", "resnet20"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6144)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("bare", "lightly"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.side:
        speed = (
            bare(args.presets[0], args.precision)
            if args.side == "bare"
            else peer(args.presets[0], args.data, args.precision)
        )
        print(speed)
        return
    from launch.lightning_cli import fast_precision

    precision, results = fast_precision(), {}
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), args.images)
        for preset in args.presets:
            speeds = {side: [] for side in SIDES}
            for _ in range(args.rounds):
                speeds["cli.py"].append(ours(preset, Path(folder), precision))
                speeds["bare"].append(child("bare", preset, Path(folder), precision))
                speeds["lightly"].append(child("lightly", preset, Path(folder), "32-true"))
                speeds["lightly bf16"].append(child("lightly", preset, Path(folder), "bf16-mixed"))
            results[preset] = {side: statistics.median(values) for side, values in speeds.items()}
            print(f"\n{preset}, batch 256, {args.images} images, {precision}, median of {args.rounds} rounds")
            for side, speed in results[preset].items():
                ratio = results[preset]["cli.py"] / speed
                print(
                    f"  {side:<14}{speed:>8.0f} images/s   cli.py / this: {ratio:>5.2f}   {SIDES[side]}",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps({"precision": precision, "images_per_s": results}, indent=2))


if __name__ == "__main__":
    main()
