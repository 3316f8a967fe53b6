"""A small Galaxy Zoo: JPGs in a folder, and a CSV of vote fractions that obey the decision tree."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from datamodules.storage.galaxy_tree import COLUMNS, PLACES, TREE


def random_fractions(count: int, seed: int = 0) -> np.ndarray:
    """Vote fractions (count, 37); questions 1 and 6 are asked of all, others of those whose answers lead there."""
    rng = np.random.default_rng(seed)
    fractions, asked = np.zeros((count, 37)), {question: np.zeros(count) for question in TREE}
    asked[1] += 1
    for question in (1, 7, 2, 9, 3, 4, 10, 11, 5, 6, 8):
        share = rng.dirichlet(np.full(len(TREE[question]), 0.5), count)
        reached = np.ones(count) if question == 6 else asked[question]
        for k, (place, following) in enumerate(zip(PLACES[question], TREE[question].values(), strict=True)):
            fractions[:, place] = share[:, k] * reached
            if following:
                asked[following] += fractions[:, place]
    return fractions


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_galaxies(folder: Path, count: int = 40, side: int = 48) -> np.ndarray:
    """Galaxy k is called 1000 + k, its image is a ramp of mean brightness 20 + 5 (k mod 40). Returns the fractions."""
    images = folder / "images_training_rev1"
    images.mkdir(parents=True)
    fractions = random_fractions(count)
    ramp = np.broadcast_to(np.linspace(0, 40, side)[:, None], (side, side, 3))
    for k in range(count):
        Image.fromarray(np.uint8(ramp + 5 * (k % 40))).save(images / f"{1000 + k}.jpg", quality=95)
    rows = [[1000 + k, *(f"{f:.6f}" for f in fractions[k])] for k in range(count)]
    write_csv(folder / "training_solutions_rev1.csv", ["GalaxyID", *COLUMNS], rows)
    return fractions


def galaxies_of(images: Tensor) -> list[int]:
    """Which galaxies stored images (N, S, S, 3) show."""
    return [round((mean - 20) / 5) for mean in images.float().mean((1, 2, 3)).tolist()]


def require_data(name: str) -> Path:
    """A folder with real data; skips the test where it is missing."""
    folder = Path(__file__).parent.parent / "data" / name
    if not folder.is_dir():
        pytest.skip(f"data/{name} is not there")
    return folder
