"""Two SimCLR views of an image, how many images a second: three peers' against ours.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --size 96

lightly: its SimCLRTransform on PIL images, torchvision: its v2 transforms on tensors, an image at a time, each in a
DataLoader with a worker a core. kornia: its transforms of the same strengths on a whole batch, in this process and on
the same device as ours, a GPU where there is one. All start from uint8 images in memory and take turns of an epoch.
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

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.turns import ratio
from datamodules.augmentation.augment import Recipe, augment_images, draw_params

BATCH, WORKERS = 256, len(os.sched_getaffinity(0))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(size: int) -> Recipe:
    """SimCLR's at half color strength, as for CIFAR (Chen et al. 2020, appendix B.9); blur from 96 pixels on."""
    color = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2}
    return Recipe(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5, blur=0.5 if size >= 96 else 0, **color)


def smooth_images(n: int, size: int) -> Tensor:
    """Random colors that change slowly: uint8 (n, size, size, 3)."""
    coarse = torch.rand(n, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (255 * fine).byte().permute(0, 2, 3, 1).contiguous()


class Pictures(Dataset):
    """Images in memory, through a transform that makes two views: nothing is read or decoded."""

    def __init__(self, images: list, transform: Callable):
        self.images, self.transform = images, transform

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
    return loader([to_pil_image(image.permute(2, 0, 1)) for image in images], transform)


def torchvision_loader(images: Tensor) -> DataLoader:
    from torchvision.transforms import v2

    size = images.shape[1]
    r = recipe(size)
    kernel = blur_kernel(size)
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, r.scale, r.ratio, antialias=True),
            v2.RandomHorizontalFlip(r.flip),
            v2.RandomApply([v2.ColorJitter(r.brightness, r.contrast, r.saturation, r.hue)], r.jitter),
            v2.RandomGrayscale(r.gray),
            *([v2.RandomApply([v2.GaussianBlur(kernel, r.sigma)], r.blur)] if r.blur else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return loader(list(images.permute(0, 3, 1, 2).contiguous()), TwoViews(view))


class TwoViews:
    def __init__(self, view: Callable[[Tensor], Tensor]):
        self.view = view

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(image), self.view(image)


def blur_kernel(size: int) -> int:
    """10 % of the side, as SimCLR's, and odd."""
    return size // 10 // 2 * 2 + 1


def loader(images: list, transform: Callable) -> DataLoader:
    return DataLoader(
        Pictures(images, transform), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )


def loader_epoch(loader: DataLoader) -> int:
    """Views on the device, as a step needs them."""
    count = 0
    for x1, x2 in loader:
        x1.to(DEVICE), x2.to(DEVICE)
        count += len(x1)
    return count


def kornia_transforms(size: int) -> Callable[[Tensor], Tensor]:
    """SimCLR's, drawn for each image of a batch float32 (B, C, S, S) in [0, 1]."""
    import kornia.augmentation as K

    r = recipe(size)
    kernel = blur_kernel(size)
    return K.AugmentationSequential(
        K.RandomResizedCrop((size, size), r.scale, r.ratio),
        K.RandomHorizontalFlip(p=r.flip),
        K.ColorJitter(r.brightness, r.contrast, r.saturation, r.hue, p=r.jitter),
        K.RandomGrayscale(p=r.gray),
        *([K.RandomGaussianBlur((kernel, kernel), r.sigma, p=r.blur)] if r.blur else []),
        K.Normalize(MEAN, STD),
    )


def kornia_epoch(images: Tensor, transforms: Callable[[Tensor], Tensor]) -> int:
    for rows in torch.randperm(len(images)).split(BATCH):
        batch = images.index_select(0, rows).to(DEVICE).permute(0, 3, 1, 2).float().div_(255)
        for _ in range(2):
            transforms(batch)
    return len(images)


def our_epoch(images: Tensor, color: str, function: Callable) -> int:
    """What a training epoch asks for: rows in random order, two draws, two views."""
    size, generator = images.shape[1], torch.Generator().manual_seed(0)
    for rows in torch.randperm(len(images)).split(BATCH):
        batch = images.index_select(0, rows).to(DEVICE)
        for _ in range(2):
            params = draw_params(recipe(size), len(batch), (size, size), generator).to(
                DEVICE, non_blocking=True
            )
            function(batch, recipe(size), params, size, color, MEAN, STD)
    return len(images)


def rate(epoch: Callable[[], int]) -> float:
    start = time.perf_counter()
    images = epoch()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images, and of the views")
    parser.add_argument("--images", type=int, default=8 * BATCH, help="of an epoch")
    parser.add_argument("--eager", action="store_true", help="leave out what torch.compile makes of ours")
    parser.add_argument("--seconds", type=float, default=30, help="of measuring, all contestants together")
    parser.add_argument("--json", type=Path, help="where to write every round's rates")
    args = parser.parse_args()
    images = smooth_images(args.images, args.size)
    peers = {
        f"lightly, {WORKERS} workers": lambda: partial(loader_epoch, lightly_loader(images)),
        f"torchvision, {WORKERS} workers": lambda: partial(loader_epoch, torchvision_loader(images)),
        "kornia, batched": lambda: partial(kornia_epoch, images, kornia_transforms(args.size)),
    }
    epochs = {}
    for name, make in peers.items():
        try:
            epochs[name] = make()
        except ImportError as error:
            print(f"{name}: left out, {error.name} is not installed: pip install -e .[bench]")
    functions = {"": augment_images}
    if not args.eager:
        functions[", compiled"] = torch.compile(augment_images, fullgraph=True, dynamic=False)
    for color in ("exact", "fast"):
        for suffix, function in functions.items():
            epochs[f"ours, {color}{suffix}"] = partial(our_epoch, images, color, function)
    for epoch in epochs.values():
        epoch()  # starts the workers, compiles
    rounds: dict[str, list[float]] = {name: [] for name in epochs}
    stop = time.perf_counter() + args.seconds
    while not rounds["ours, exact"] or time.perf_counter() < stop:
        for name, epoch in epochs.items():
            rounds[name].append(rate(epoch))
    report(rounds, args)


def report(rounds: dict[str, list[float]], args: argparse.Namespace) -> None:
    peers = [name for name in rounds if not name.startswith("ours")]
    about = {"device": DEVICE.type, "size": args.size, "batch": BATCH, "cores": len(os.sched_getaffinity(0))}
    about["load"] = round(os.getloadavg()[0], 1)  # far above the cores, others were running: measure again
    packages = {"torch", "torchvision", "pillow", *(name.split(",")[0] for name in peers)}
    about |= {name: importlib.metadata.version(name) for name in sorted(packages)}
    print("Two SimCLR views of an image:", ", ".join(f"{key} {value}" for key, value in about.items()))
    print(
        f"Medians of {len(rounds['ours, exact'])} interleaved rounds of one epoch of {args.images} images.\n"
    )
    print(
        f"{'':24}{'images/s':>10}"
        + "".join(f"{'/ ' + peer:>26}" for peer in peers)
        + "   (slowest - fastest)"
    )
    ratios = {name: {peer: ratio(found, rounds[peer]) for peer in peers} for name, found in rounds.items()}
    for name, found in rounds.items():
        cells = "".join(f"{ratios[name][peer]:>25.1f}x" for peer in peers)
        spread = f"({min(found):,.0f} - {max(found):,.0f})"
        print(f"{name:24}{statistics.median(found):10,.0f}{cells}   {spread}")
    if args.json:
        args.json.write_text(
            json.dumps({**about, "images_per_second": rounds, "ratios": ratios}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
