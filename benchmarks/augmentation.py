"""Two SimCLR views of an image, how many images a second: three peers' against ours.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --size 96

lightly: its SimCLRTransform on PIL images, torchvision: its v2 transforms on tensors, an image at a time, each in a
DataLoader with a worker a core. kornia: its transforms of the same strengths on a whole batch, in this process and on
the same device as ours, a GPU where there is one. All start from uint8 images in memory and take turns of an epoch.
"""

import argparse
import importlib.metadata
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_pil_image

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.drawn_images import TransformedImages
from benchmarks.program import build_parser, count_cores, print_facts, read_load, save_json
from benchmarks.timing import measure_rate
from benchmarks.turns import median_ratio
from datamodules.augmentation.augment import Recipe, augment_images, draw_params

BATCH, WORKERS = 256, count_cores()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def simclr_recipe(size: int) -> Recipe:
    """SimCLR's at half color strength, as for CIFAR (Chen et al. 2020, appendix B.9); blur from 96 pixels on."""
    color = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2}
    return Recipe(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5, blur=0.5 if size >= 96 else 0, **color)


def draw_smooth_images(n: int, size: int) -> Tensor:
    """Random colors that change slowly: uint8 (n, size, size, 3)."""
    coarse = torch.rand(n, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (255 * fine).byte().permute(0, 2, 3, 1).contiguous()


def lightly_loader(images: Tensor) -> DataLoader:
    from lightly.transforms import SimCLRTransform

    size = images.shape[1]
    transform = SimCLRTransform(
        input_size=size,
        cj_strength=0.5,
        min_scale=0.08,
        gaussian_blur=simclr_recipe(size).blur,
        normalize={"mean": MEAN, "std": STD},
    )
    return make_loader([to_pil_image(image.permute(2, 0, 1)) for image in images], transform)


def torchvision_loader(images: Tensor) -> DataLoader:
    from torchvision.transforms import v2

    size = images.shape[1]
    recipe = simclr_recipe(size)
    blur = v2.GaussianBlur(blur_kernel(size), recipe.sigma)
    jitter = v2.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, recipe.scale, recipe.ratio, antialias=True),
            v2.RandomHorizontalFlip(recipe.flip),
            v2.RandomApply([jitter], recipe.jitter),
            v2.RandomGrayscale(recipe.gray),
            *([v2.RandomApply([blur], recipe.blur)] if recipe.blur else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return make_loader(list(images.permute(0, 3, 1, 2).contiguous()), TwoViews(view))


class TwoViews:
    def __init__(self, view: Callable[[Tensor], Tensor]):
        self.view = view

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(image), self.view(image)


def blur_kernel(size: int) -> int:
    """10 % of the side, as SimCLR's, and odd."""
    return size // 10 // 2 * 2 + 1


def make_loader(images: list, transform: Callable) -> DataLoader:
    dataset = TransformedImages(images, transform)
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def run_loader_epoch(loader: DataLoader) -> None:
    """Views on the device, as a step needs them."""
    for x1, x2 in loader:
        x1.to(DEVICE), x2.to(DEVICE)


def kornia_transforms(size: int) -> Callable[[Tensor], Tensor]:
    """SimCLR's, drawn for each image of a batch float32 (B, C, S, S) in [0, 1]."""
    import kornia.augmentation as K

    recipe = simclr_recipe(size)
    kernel = blur_kernel(size)
    return K.AugmentationSequential(
        K.RandomResizedCrop((size, size), recipe.scale, recipe.ratio),
        K.RandomHorizontalFlip(p=recipe.flip),
        K.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue, p=recipe.jitter),
        K.RandomGrayscale(p=recipe.gray),
        *([K.RandomGaussianBlur((kernel, kernel), recipe.sigma, p=recipe.blur)] if recipe.blur else []),
        K.Normalize(MEAN, STD),
    )


def shuffled_batches(images: Tensor) -> Iterator[Tensor]:
    """All images in random order, uint8 (B, S, S, 3) on the device."""
    for rows in torch.randperm(len(images)).split(BATCH):
        yield images.index_select(0, rows).to(DEVICE)


def run_kornia_epoch(images: Tensor, transforms: Callable[[Tensor], Tensor]) -> None:
    for batch in shuffled_batches(images):
        pixels = batch.permute(0, 3, 1, 2).float().div_(255)
        for _ in range(2):
            transforms(pixels)


def run_our_epoch(images: Tensor, color: str, function: Callable) -> None:
    """What a training epoch asks for: rows in random order, two draws, two views."""
    size, generator = images.shape[1], torch.Generator().manual_seed(0)
    recipe = simclr_recipe(size)
    for batch in shuffled_batches(images):
        for _ in range(2):
            params = draw_params(recipe, len(batch), (size, size), generator).to(DEVICE, non_blocking=True)
            function(batch, recipe, params, size, color, MEAN, STD)


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--size", type=int, default=32, help="side of the images, and of the views")
    parser.add_argument("--images", type=int, default=8 * BATCH, help="of an epoch")
    parser.add_argument("--eager", action="store_true", help="leave out what torch.compile makes of ours")
    parser.add_argument("--seconds", type=float, default=30, help="of measuring, all contestants together")
    parser.add_argument("--json", type=Path, help="where to write every round's rates")
    args = parser.parse_args()
    images = draw_smooth_images(args.images, args.size)
    peers = {
        f"lightly, {WORKERS} workers": lambda: partial(run_loader_epoch, lightly_loader(images)),
        f"torchvision, {WORKERS} workers": lambda: partial(run_loader_epoch, torchvision_loader(images)),
        "kornia, batched": lambda: partial(run_kornia_epoch, images, kornia_transforms(args.size)),
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
            epochs[f"ours, {color}{suffix}"] = partial(run_our_epoch, images, color, function)
    for epoch in epochs.values():
        epoch()  # starts the workers, compiles
    rates: dict[str, list[float]] = {name: [] for name in epochs}
    stop = time.perf_counter() + args.seconds
    while not rates["ours, exact"] or time.perf_counter() < stop:
        for name, epoch in epochs.items():
            rates[name].append(measure_rate(args.images, epoch))
    report_rates(rates, args)


def report_rates(rates: dict[str, list[float]], args: argparse.Namespace) -> None:
    peers = [name for name in rates if not name.startswith("ours")]
    facts = {"device": DEVICE.type, "size": args.size, "batch": BATCH, "cores": WORKERS, "load": read_load()}
    packages = {"torch", "torchvision", "pillow", *(name.split(",")[0] for name in peers)}
    facts |= {name: importlib.metadata.version(name) for name in sorted(packages)}
    print_facts(facts, "Two SimCLR views of an image: ")
    print(
        f"Medians of {len(rates['ours, exact'])} interleaved rounds of one epoch of {args.images} images.\n"
    )
    titles = "".join(f"{'/ ' + peer:>26}" for peer in peers)
    print(f"{'':24}{'images/s':>10}{titles}   (slowest - fastest)")
    ratios = {name: {peer: median_ratio(rates[name], rates[peer]) for peer in peers} for name in rates}
    for name, speeds in rates.items():
        cells = "".join(f"{ratios[name][peer]:>25.1f}x" for peer in peers)
        spread = f"({min(speeds):,.0f} - {max(speeds):,.0f})"
        print(f"{name:24}{statistics.median(speeds):10,.0f}{cells}   {spread}")
    save_json(args.json, {**facts, "images_per_second": rates, "ratios": ratios})


if __name__ == "__main__":
    main()
