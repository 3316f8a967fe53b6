"""The autoencoder of configs/autoencoder_stl10.yaml, 64x64 crops of 96x96 images: cli.py beside the obvious pipeline.

    python benchmarks/autoencoder.py                    # about 3 minutes

All sides train the same network by Adam with batches of 64, each in a process of its own, in turns of `--turn` seconds
with the whole machine; a ratio is the median of the rounds' ratios. The obvious pipeline: a Dataset of PIL images,
torchvision's v2 transforms an image at a time, a DataLoader with 2 workers, and a plain loop, in float32 or with bf16
autocast.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.drawn_images import TransformedImages, write_block_images
from benchmarks.program import (
    ENDLESS,
    build_fit_command,
    build_parser,
    count_cores,
    print_facts,
    read_load,
    save_json,
)
from benchmarks.turns import measure_speeds, print_ratios, stamp_step

SIDES = {
    "cli.py": "configs/autoencoder_stl10.yaml: augmentation, online monitors, logging, checkpoints",
    "torchvision": "v2 transforms on PIL images, 2 workers, plain loop, float32",
    "torchvision bf16": "the same, forward under bf16 autocast",
}


def list_autoencoders(data: Path, batch: int) -> dict[str, list[str]]:
    """The command of each side."""
    options = {
        "runs_dir": data / "runs",
        "data.init_args.data_dir": data,
        "data.init_args.unlabeled": "null",
        "data.init_args.batch_size": batch,
        **ENDLESS,
    }
    peers = {
        name: [sys.executable, __file__, name, str(data), str(batch), "STAMPS"] for name in list(SIDES)[1:]
    }
    return {"cli.py": build_fit_command("configs/autoencoder_stl10.yaml", options), **peers}


def train_torchvision(side: str, data: str, batch: str, path: str) -> None:
    """Never ends."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    from ssl_modules.networks.conv_autoencoder import ConvEncoder

    images = [Image.fromarray(image) for image in np.load(f"{data}/stl10/unlabeled_images.npy")]
    steps = [v2.RandomCrop(64), v2.RandomHorizontalFlip(0.5), v2.ToImage()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])
    encoder = ConvEncoder(size=64, widths=[12, 24, 48, 24])
    model = torch.nn.Sequential(encoder, encoder.decoder(), torch.nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    dataset = TransformedImages(images, transform)
    loader = DataLoader(
        dataset, int(batch), shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    while True:
        for x in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=side == "torchvision bf16"):
                y = model(x)
            loss = F.mse_loss(y.float(), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stamp_step(path)


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=8, help="seconds of a turn")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = {"unlabeled": args.images, "train": 200, "test": 200}
        write_block_images(Path(folder) / "stl10", counts, cells=12, pixels=8)
        steps = measure_speeds(list_autoencoders(Path(folder), args.batch), args.turn, args.rounds)
    speeds = {side: [args.batch * rate for rate in turns] for side, turns in steps.items()}
    facts = {"batch": args.batch, "cores": count_cores(), "load": read_load()}
    print_facts(facts)
    print(f"{args.rounds} turns of {args.turn:g} s each, medians")
    ratios = print_ratios(speeds, "cli.py", SIDES, "images/s")
    save_json(args.json, facts | {"images_per_s": speeds, "cli_over": ratios})


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SIDES:  # a program that `main` has started
        train_torchvision(*sys.argv[1:])
    else:
        main()
