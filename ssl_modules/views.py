"""Several views of a batch, of one size or of several, through one network."""

from itertools import groupby

import torch
from torch import Tensor, nn


def encode_views(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Encode views (B, C, H, W) each -> (V, B, D). Neighbors of one size go through the network together."""
    features = []
    for _, group in groupby(views, key=lambda view: view.shape):
        stacked = torch.stack(list(group))  # (v, B, C, H, W)
        features.append(network(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2]))
    return torch.cat(features)
