"""Several views of a batch, of one size or of several, through one network."""

from itertools import groupby

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ssl_modules.micro_batch import encode_in_parts


def encode_views(module: LightningModule, network: nn.Module, views: list[Tensor]) -> Tensor:
    """Encode views (B, C, H, W) each -> (V, B, D). Neighbors of one size go through the network together, or in parts
    of the module's `micro_batch`."""
    features = []
    for _, group in groupby(views, key=lambda view: view.shape):
        stacked = torch.stack(list(group))  # (v, B, C, H, W)
        encoded = encode_in_parts(module, network, stacked.flatten(0, 1))
        features.append(encoded.unflatten(0, stacked.shape[:2]))
    return torch.cat(features)
