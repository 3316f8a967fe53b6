"""The multi-layer perceptron of projectors and predictors."""

from itertools import pairwise

from torch import nn


def mlp(*dims: int, norm: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers dims[0] -> ... -> dims[-1], with batch norm and the activation between them, none after the last.

    Without batch norm all layers have a bias; with it, no layer has one.
    """
    layers = []
    for d_in, d_out in pairwise(dims):
        inplace = {"inplace": True} if activation is nn.ReLU else {}
        layers += [nn.Linear(d_in, d_out, bias=not norm), *([nn.BatchNorm1d(d_out)] if norm else [])]
        layers.append(activation(**inplace))
    return nn.Sequential(*layers[: -2 if norm else -1])
