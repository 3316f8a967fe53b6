"""Image sets that are drawn, since their content does not matter for speed, and images through a peer's transform."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset


def write_block_images(
    folder: Path, counts: dict[str, int], cells: int, pixels: int = 1, channels: int = 3
) -> None:
    """Write images of random blocks, `cells` x `cells` of `pixels` x `pixels` each, in the array layout.

    Args:
        counts: split -> number of images; all splits but `unlabeled` have ten classes in turn.
    """
    shape = (max(counts.values()), cells, cells, channels)
    blocks = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = blocks.repeat(pixels, axis=1).repeat(pixels, axis=2)
    folder.mkdir()
    for split, count in counts.items():
        np.save(folder / f"{split}_images.npy", images[:count])
        if split != "unlabeled":
            np.save(folder / f"{split}_labels.npy", np.arange(count) % 10)


class TransformedImages(Dataset):
    """Images in memory, each through a transform: nothing is read or decoded."""

    def __init__(self, images: Sequence, transform: Callable):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | Sequence[Tensor]:
        return self.transform(self.images[index])
