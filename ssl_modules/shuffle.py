"""Encoding of a batch in another order, and on other processes, so that batch norm cannot tell who is with whom."""

import torch
from torch import Tensor, nn

from common.batch import BatchKey
from ssl_modules.base import SSLModule


@torch.no_grad()
def encode_shuffled(module: SSLModule, network: nn.Module, view: Tensor, key: BatchKey) -> Tensor:
    """Views (B, C, H, W) of each process -> what a network makes of all of them (N, P), in the order they are in.

    Args:
        module: whose processes these are.
        network: (B, C, H, W) -> (B, P).
        key: of the batch, which says the order in which they are encoded, the same on all processes.

    He et al. 2020, section 3.3, https://arxiv.org/abs/1911.05722
    """
    order = torch.randperm(key.rows, generator=key.generator("shuffle")).to(view.device, non_blocking=True)
    encoded = module.encode_in_parts(network, module.gather(view)[order][key.local])
    return module.gather(encoded)[order.argsort()]
