"""A recurrent network that reads a text character by character.

LSTM: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735
Features as the maximum over its states: Conneau et al. 2017, https://arxiv.org/abs/1705.02364
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.ranges import PositiveInt

CHARACTERS = 128  # ASCII; 0 is no character


class CharLSTM(nn.Module):
    """One-hot characters -> LSTM -> features of a text from its states; padding changes nothing.

    Args:
        hidden_dim: units of the LSTM, and width of the features.
        pool: `last` is the state after a text's last character, `max` the largest value of each unit over all its
            characters, which learns faster, for gradients need not come all the way from the end.
    """

    pooled = False

    def __init__(self, hidden_dim: PositiveInt = 128, pool: Literal["last", "max"] = "last"):
        super().__init__()
        self.lstm = nn.LSTM(CHARACTERS, hidden_dim, batch_first=True)
        self.dim, self.pool = hidden_dim, pool

    def states(self, view: Tensor) -> Tensor:
        """ASCII codes (B, T), 0 after a text's end -> the state after each character (B, T, D)"""
        rows = torch.eye(CHARACTERS, dtype=self.lstm.weight_ih_l0.dtype, device=view.device)
        return self.lstm(F.embedding(view, rows))[0]  # one-hot, faster than F.one_hot

    def features(self, states: Tensor, view: Tensor) -> Tensor:
        """States (B, T, D) of codes (B, T) -> features (B, D); 0 for an empty text."""
        positions = torch.arange(1, view.shape[1] + 1, device=view.device)
        lengths = (positions * (view > 0)).amax(1)
        if self.pool == "max":
            features = states.masked_fill((positions > lengths[:, None])[..., None], -torch.inf).amax(1)
        else:
            features = states[torch.arange(len(view), device=view.device), (lengths - 1).clamp(min=0)]
        return torch.where((lengths > 0)[:, None], features, 0)

    def forward(self, view: Tensor) -> Tensor:
        """Codes (B, T) -> features (B, D)"""
        return self.features(self.states(view), view)
