"""A small folder of class folders: JPGs and PNGs of several sizes."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"apple": (200, 40, 40), "leaf": (40, 180, 60), "sky": (60, 90, 220)}


def write_images(folder: Path, color: tuple[int, int, int], count: int) -> None:
    """Images of one color; number k is 20 + k high, and every other one a PNG."""
    folder.mkdir(parents=True)
    for k in range(count):
        image = Image.new("RGB", (30, 20 + k), color)
        image.save(folder / (f"{k}.png" if k % 2 else f"{k}.JPG"), quality=95)


def write_folders(root: Path, count: int = 8, under: str = "") -> None:
    """`root/under/CLASS/`, `count` images in each."""
    for name, color in CLASSES.items():
        write_images(root / under / name, color, count)


def classes_of(images: np.ndarray) -> list[int]:
    """Which class stored images (N, S, S, 3) show."""
    colors = np.array(list(CLASSES.values()))
    means = images.reshape(len(images), -1, 3).mean(1)
    return np.abs(means[:, None] - colors).sum(2).argmin(1).tolist()
