"""The autoencoder of configs/autoencoder_stl10.yaml, 64x64 crops of 96x96 images: cli.py beside the obvious pipeline.

    python benchmarks/autoencoder.py                    # about 3 minutes

All sides train the same network by Adam with batches of 64, each in a process of its own, in turns of `--turn` seconds
with the whole machine; a ratio is the median of the rounds' ratios. The obvious pipeline: a Dataset of PIL images,
torchvision's v2 transforms an image at a time, a DataLoader with 2 workers, and a plain loop, in float32 or with bf16
autocast.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.turns import print_ratios, rates, stamp

ROOT = Path(__file__).parents[1]
SIDES = {
    "cli.py": "configs/autoencoder_stl10.yaml: augmentation, online monitors, logging, checkpoints",
    "torchvision": "v2 transforms on PIL images, 2 workers, plain loop, float32",
    "torchvision bf16": "the same, forward under bf16 autocast",
}


def make_data(folder: Path, images: int) -> None:
    """Smooth random color images where STL-10's are: content does not matter for speed."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (images, 12, 12, 3), np.uint8)
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)
    folder.mkdir()
    for split, count in (("unlabeled", images), ("train", 200), ("test", 200)):
        np.save(folder / f"{split}_images.npy", pictures[:count])
        if split != "unlabeled":
            np.save(folder / f"{split}_labels.npy", np.arange(count) % 10)


def commands(data: Path, batch: int) -> dict[str, list[str]]:
    """What each side runs."""
    ours = [sys.executable, "cli.py", "fit", "--config", "configs/autoencoder_stl10.yaml"]
    options = {
        "runs_dir": data / "runs",
        "data.init_args.data_dir": data,
        "data.init_args.unlabeled": "null",
        "data.init_args.batch_size": batch,
        "trainer.max_epochs": 10_000,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks+": "benchmarks.epoch.StampSteps",
        "trainer.callbacks.path": "STAMPS",
        "without": "[Protocol,WandbLogger]",
    }
    for name, value in options.items():
        ours += [f"--{name}", str(value)]
    peers = {
        name: [sys.executable, __file__, name, str(data), str(batch), "STAMPS"] for name in list(SIDES)[1:]
    }
    return {"cli.py": ours, **peers}


def torchvision_loop(side: str, data: str, batch: str, path: str) -> None:
    """Never ends."""
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    from ssl_modules.networks.conv_autoencoder import ConvEncoder

    class Pictures(Dataset):
        def __init__(self):
            self.images = [Image.fromarray(image) for image in np.load(f"{data}/stl10/unlabeled_images.npy")]
            self.transform = v2.Compose(
                [
                    v2.RandomCrop(64),
                    v2.RandomHorizontalFlip(0.5),
                    v2.ToImage(),
                    v2.ToDtype(torch.float32, scale=True),
                ]
            )

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            return self.transform(self.images[i])

    encoder = ConvEncoder(size=64, widths=[12, 24, 48, 24])
    model = torch.nn.Sequential(encoder, encoder.decoder(), torch.nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(
        Pictures(), int(batch), shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    while True:
        for x in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=side == "torchvision bf16"):
                y = model(x)
            loss = F.mse_loss(y.float(), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stamp(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=8, help="seconds of a turn")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "stl10", args.images)
        steps = rates(commands(Path(folder), args.batch), args.turn, args.rounds, ROOT)
    speeds = {side: [args.batch * rate for rate in turns] for side, turns in steps.items()}
    about = {"batch": args.batch, "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1)}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{args.rounds} turns of {args.turn:g} s each, medians")
    ratios = print_ratios(speeds, "cli.py", SIDES, "images/s")
    if args.json:
        args.json.write_text(json.dumps(about | {"images_per_s": speeds, "cli_over": ratios}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SIDES:  # a program that `main` has started
        torchvision_loop(*sys.argv[1:])
    else:
        main()
