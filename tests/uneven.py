"""What tests of uneven classes share: a small data set of which one class has most examples."""

from pathlib import Path

import numpy as np

from datamodules.storage.layout import write_arrays

NAMES = ["smooth", "spiral", "ring"]


def write_uneven(folder: Path, counts: dict[str, list[int]], seed: int = 0) -> None:
    """Noisy gray images (16, 16, 3), a little brighter from class to class: hard to tell apart.

    Args:
        counts: split -> examples of each class.
    """
    rng, arrays = np.random.default_rng(seed), {}
    for split, of_class in counts.items():
        labels = rng.permutation(np.repeat(np.arange(len(of_class)), of_class))
        images = 100 + 12 * labels[:, None, None, None] + rng.integers(-60, 60, (len(labels), 16, 16, 3))
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels.astype(np.int64)}
    write_arrays(folder, arrays, NAMES[: len(next(iter(counts.values())))])
