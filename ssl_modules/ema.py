"""Teachers: copies of networks that follow them as a moving average of their weights."""

import copy

import torch
from torch import nn


def copy_network(network: nn.Module) -> nn.Module:
    """A copy with the same weights, which no optimizer trains."""
    return copy.deepcopy(network).requires_grad_(False)


def copy_weights(target: nn.Module, source: nn.Module) -> None:
    """Give `target`, which is built like `source`, its weights and buffers."""
    target.load_state_dict(source.state_dict())


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move the weights of a teacher by an optimizer's step: momentum * average + (1 - momentum) * network, in place.

    Buffers are not averaged: a teacher in training mode gathers batch norm statistics of its own activations.

    Tarvainen & Valpola 2017, eq. 2, https://arxiv.org/abs/1703.01780
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - momentum)
