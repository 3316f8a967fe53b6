"""Several views of a batch, of one size or of several, through one network."""

from itertools import groupby

import torch
from torch import Tensor, nn


def encode_views(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Encode views (B, C, H, W) each -> (V, B, D). Neighbors of one size go through the network together."""
    groups = [
        torch.stack(list(group)) for _, group in groupby(views, key=lambda view: view.shape)
    ]  # (v, B, C, H, W)
    return torch.cat([network(group.flatten(0, 1)).unflatten(0, group.shape[:2]) for group in groups])
