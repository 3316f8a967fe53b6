"""A few examples of a split: as the network sees them, and as a person does."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation.features import eval_mode


@dataclass
class Examples:
    """Views (n, ...) on the trainer's device, labels (n,) or (n, T), positions in the split (n,), and what to show.

    `shown`: uint8 (n, H, W, C), or strings.
    """

    view: Tensor
    labels: Tensor
    index: Tensor
    shown: np.ndarray | list[str]


def examples(trainer: Trainer, split: str, positions: Tensor | list[int]) -> Examples:
    """Not augmented, in the order of `positions`. `split`: "val", "test" or "bank", the labeled training set."""
    data = trainer.datamodule
    batch = data.read_batch(split, np.asarray(positions), trainer.strategy.root_device)
    shown = data.display(batch.views[0])
    return Examples(
        batch.views[0], batch.labels, batch.index, shown.cpu().numpy() if isinstance(shown, Tensor) else shown
    )


def features_of(trainer: Trainer, module: LightningModule, view: Tensor) -> Tensor:
    """(n, ...) -> (n, D) float32, in eval mode and leaving no trace."""
    with eval_mode(trainer, module):
        return module.encode(view).float()


def evenly(labels: Tensor, count: int) -> Tensor:
    """Positions (count,) of which classes get as equal a share as they can, the first of each; class after class.

    Of labels (N, T), which are numbers, all over the split.
    """
    if labels.ndim > 1:
        return (
            torch.linspace(0, len(labels) - 1, min(count, len(labels)), device=labels.device).round().long()
        )
    kinds = labels.unique()
    rank = torch.zeros_like(labels)  # how many of its class come before
    for kind in kinds:
        rank[labels == kind] = torch.arange(int((labels == kind).sum()), device=labels.device)
    first = (rank * len(kinds) + torch.searchsorted(kinds, labels)).argsort()[:count]
    return first[labels[first].argsort(stable=True)]


def small(images: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W, C), C 1 or 3 -> uint8 (n, 32, 32, 3)"""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    return x.round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def thumbnails(trainer: Trainer, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
    """`images`, uint8 (N, 32, 32, 3), or `texts` (N,), of these positions in a split."""
    shown = [examples(trainer, split, part).shown for part in np.array_split(index, -(-len(index) // 256))]
    if isinstance(shown[0], list):
        return {"texts": np.concatenate(shown)}
    return {"images": np.concatenate([small(images) for images in shown])}
