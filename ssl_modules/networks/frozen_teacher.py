"""A trained network that others learn from, and that does not change by one bit."""

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveInt


class FrozenTeacher(nn.Module):
    """Views (B, C, H, W) of any size, normalized for the student -> features (B, dim), without gradient.

    It is always in eval mode, so that batch norm keeps its statistics and nothing is dropped.

    Args:
        network: an encoder. Its `normalization`, where it has one, are mean and standard deviation of the images that
            it was trained with.
        size: side to which views are resized for it; they stay as they are if None.
    """

    def __init__(self, network: nn.Module, size: PositiveInt | None = None):
        super().__init__()
        if not hasattr(network, "dim"):
            raise MisconfigurationException(
                f"a teacher needs `dim`, the width of its features, as encoders have: {type(network).__name__} has none"
            )
        self.network, self.size, self.dim = network.requires_grad_(False), size, network.dim
        self.register_buffer("scale", torch.ones(1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.zeros(1, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "FrozenTeacher":
        return super().train(False)

    def expect_normalized_by(self, mean: list[float], std: list[float]) -> None:
        """Say what views are normalized with, so that they are turned into what the network was trained with."""
        if normalization := getattr(self.network, "normalization", None):
            mean, std, own_mean, own_std = (
                torch.tensor(numbers, device=self.scale.device).view(-1, 1, 1)
                for numbers in (mean, std, *normalization)
            )
            self.scale, self.shift = std / own_std, (mean - own_mean) / own_std

    @torch.no_grad()
    def forward(self, view: Tensor) -> Tensor:
        view = view * self.scale + self.shift
        if self.size:
            view = F.interpolate(view, size=(self.size, self.size), mode="bilinear", antialias=True)
        return self.network(view)
