"""Heads of DINO and iBOT: features -> a direction -> its similarities to prototypes."""

import torch.nn.functional as F
from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.losses.directions import normalize_vectors
from ssl_modules.networks.mlp import mlp


class PrototypeHead(nn.Module):
    """A perceptron of three layers, and a linear layer whose normalized rows are the prototypes.

    Args:
        dim: width of the features.
        hidden_dim: of the two hidden layers.
        prototypes: how many, K.
        norm: batch norm in the hidden layers, over the rows of all views.
        bottleneck_dim: width P of the directions.

    Caron et al. 2021, appendix C, https://arxiv.org/abs/2104.14294
    """

    def __init__(
        self,
        dim: PositiveInt,
        hidden_dim: PositiveInt,
        prototypes: PositiveInt,
        norm: bool = False,
        bottleneck_dim: PositiveInt = 256,
    ):
        super().__init__()
        self.layers = mlp(dim, hidden_dim, hidden_dim, bottleneck_dim, norm=norm, activation=nn.GELU)
        self.prototypes = nn.Linear(bottleneck_dim, prototypes, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(..., dim) -> directions (..., P), similarities to the prototypes (..., K)"""
        rows = normalize_vectors(self.layers(features.flatten(0, -2)), dim=1)
        directions = rows.unflatten(0, features.shape[:-1])
        return directions, F.linear(directions, normalize_vectors(self.prototypes.weight, dim=1))


class TokenHead(PrototypeHead):
    """A head of images and of patches: the same network and prototypes for both, or others for patches.

    Args:
        dim, hidden_dim, prototypes: see PrototypeHead.
        shared: whether patches go through the network of images.

    Zhou et al. 2021, section 3.2, https://arxiv.org/abs/2111.07832
    """

    def __init__(self, dim: PositiveInt, hidden_dim: PositiveInt, prototypes: PositiveInt, shared: bool):
        super().__init__(dim, hidden_dim, prototypes)
        self.patches = None if shared else PrototypeHead(dim, hidden_dim, prototypes)

    def compare_patches(self, tokens: Tensor) -> Tensor:
        """Tokens (..., dim) -> similarities to the prototypes of patches (..., K)"""
        return (self.patches or self)(tokens)[1]
