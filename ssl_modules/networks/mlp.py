"""The multi-layer perceptron of projectors and predictors."""

from itertools import pairwise

from torch import nn


def mlp(*dims: int) -> nn.Sequential:
    """Linear layers dims[0] -> ... -> dims[-1], with batch norm and ReLU between them, none after the last."""
    layers = []
    for d_in, d_out in pairwise(dims):
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-2])
