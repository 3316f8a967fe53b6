"""Prototypes of length 1, which directions are compared with."""

import torch
import torch.nn.functional as F
from torch import nn

from common.ranges import PositiveInt


class Prototypes(nn.Linear):
    """Directions (..., dim) -> similarities to prototypes (..., count), cosines if `normalize` follows each step.

    Caron et al. 2020, section 3.1, https://arxiv.org/abs/2006.09882
    """

    def __init__(self, dim: PositiveInt, count: PositiveInt):
        super().__init__(dim, count, bias=False)
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Give all prototypes length 1 again."""
        self.weight.copy_(F.normalize(self.weight, dim=1))
