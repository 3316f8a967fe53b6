"""Two SimCLR views of an image, how many images a second: lightly's loader against ours, interleaved, on this machine.

python benchmarks/augmentation.py --size 96
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

from datamodules.augment import Recipe, augment, draw

BATCH, WORKERS = 256, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(size: int) -> Recipe:
    """SimCLR's at half colour strength, as for CIFAR (Chen et al. 2020, appendix B.9); blur from 96 pixels on."""
    color = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2}
    return Recipe(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5, blur=0.5 if size >= 96 else 0, **color)


def smooth_images(n: int, size: int) -> Tensor:
    """Random colours that change slowly: uint8 (n, size, size, 3)."""
    coarse = torch.rand(n, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (255 * fine).byte().permute(0, 2, 3, 1).contiguous()


class Pictures(Dataset):
    """PIL images in memory, through lightly's transform: nothing is read or decoded."""

    def __init__(self, images: Tensor, transform: Callable):
        self.images = [to_pil_image(image.permute(2, 0, 1)) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def lightly_loader(images: Tensor) -> DataLoader:
    from lightly.transforms import SimCLRTransform

    size = images.shape[1]
    transform = SimCLRTransform(
        input_size=size,
        cj_strength=0.5,
        min_scale=0.08,
        gaussian_blur=recipe(size).blur,
        normalize={"mean": MEAN, "std": STD},
    )
    pictures = Pictures(images, transform)
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def lightly_epoch(loader: DataLoader) -> int:
    return sum(len(x1) for x1, _ in loader)


def our_epoch(images: Tensor, color: str, function: Callable) -> int:
    """What a training epoch asks for: rows in random order, two draws, two views."""
    size, generator = images.shape[1], torch.Generator().manual_seed(0)
    for rows in torch.randperm(len(images)).split(BATCH):
        batch = images.index_select(0, rows)
        for _ in range(2):
            luck = draw(recipe(size), len(batch), (size, size), generator)
            function(batch, recipe(size), luck, size, color, MEAN, STD)
    return len(images)


def rate(epoch: Callable[[], int]) -> float:
    start = time.perf_counter()
    images = epoch()
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images, and of the views")
    parser.add_argument("--seconds", type=float, default=30, help="of measuring, all contestants together")
    parser.add_argument("--json", type=Path, help="where to write every round's rates")
    args = parser.parse_args()
    images = smooth_images(8 * BATCH, args.size)
    try:
        epochs = {f"lightly, {WORKERS} workers": partial(lightly_epoch, lightly_loader(images))}
    except ImportError:
        sys.exit("lightly is missing: pip install 'lightbox[bench]'")
    compiled = torch.compile(augment, fullgraph=True, dynamic=False)
    for color in ("exact", "fast"):
        epochs[f"ours, {color}"] = partial(our_epoch, images, color, augment)
        epochs[f"ours, {color}, compiled"] = partial(our_epoch, images, color, compiled)
    for epoch in epochs.values():
        epoch()  # starts the workers, compiles
    rounds: dict[str, list[float]] = {name: [] for name in epochs}
    stop = time.perf_counter() + args.seconds
    while time.perf_counter() < stop:
        for name, epoch in epochs.items():
            rounds[name].append(rate(epoch))
    report(rounds, args)


def report(rounds: dict[str, list[float]], args: argparse.Namespace) -> None:
    medians = {name: statistics.median(rates) for name, rates in rounds.items()}
    reference = next(iter(medians.values()))
    about = {"size": args.size, "batch": BATCH, "cores": len(os.sched_getaffinity(0))}
    about["load"] = round(os.getloadavg()[0], 1)  # far above the cores, others were running: measure again
    about |= {
        name: importlib.metadata.version(name) for name in ("lightly", "torch", "torchvision", "pillow")
    }
    print("Two SimCLR views of an image:", ", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"Median of {len(rounds['ours, exact'])} interleaved rounds of one epoch of {8 * BATCH} images.\n")
    print(f"{'':24}{'images/s':>10}{'ratio':>8}   (slowest - fastest round)")
    for name, median in medians.items():
        spread = f"({min(rounds[name]):,.0f} - {max(rounds[name]):,.0f})"
        print(f"{name:24}{median:10,.0f}{median / reference:7.1f}x   {spread}")
    if args.json:
        args.json.write_text(json.dumps({**about, "images_per_second": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
