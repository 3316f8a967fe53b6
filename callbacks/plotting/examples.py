"""A few examples of a split, both as input of the network and as pictures for a person."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor


@dataclass
class Examples:
    """Views (n, ...) on the trainer's device, labels (n,) or (n, T), positions in the split (n,).

    `display` is what a person sees: uint8 (n, H, W, C), or strings.
    """

    view: Tensor
    labels: Tensor
    index: Tensor
    display: np.ndarray | list[str]


def load_examples(trainer: Trainer, split: str, positions: Tensor | list[int]) -> Examples:
    """Load examples without augmentation, in the order of `positions`.

    Args:
        split: "val", "test" or "bank", the labeled training set.
    """
    data = trainer.datamodule
    batch = data.read_batch(split, np.asarray(positions), trainer.strategy.root_device)
    display = data.display(batch.views[0])
    display = display.cpu().numpy() if isinstance(display, Tensor) else display
    return Examples(batch.views[0], batch.labels, batch.index, display)


def pick_evenly(labels: Tensor, count: int) -> Tensor:
    """Pick positions (count,) with about equally many of each class, the first of each; class after class.

    Labels (N, T) are numbers, not classes: positions are then spread evenly over the split.
    """
    if labels.ndim > 1:
        count = min(count, len(labels))
        return torch.linspace(0, len(labels) - 1, count, device=labels.device).round().long()
    kinds = labels.unique()
    rank = torch.zeros_like(labels)  # how many of its class come before
    for kind in kinds:
        rank[labels == kind] = torch.arange(int((labels == kind).sum()), device=labels.device)
    first = (rank * len(kinds) + torch.searchsorted(kinds, labels)).argsort()[:count]
    return first[labels[first].argsort(stable=True)]


def shrink_images(images: np.ndarray) -> np.ndarray:
    """Images uint8 (n, H, W, C), C 1 or 3 -> uint8 (n, 32, 32, 3)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    return x.round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def make_thumbnails(trainer: Trainer, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
    """Make `images`, uint8 (N, 32, 32, 3), or `texts` (N,), of these positions in a split."""
    parts = np.array_split(index, -(-len(index) // 256))
    displays = [load_examples(trainer, split, part).display for part in parts]
    if isinstance(displays[0], list):
        return {"texts": np.concatenate(displays)}
    return {"images": np.concatenate([shrink_images(images) for images in displays])}
