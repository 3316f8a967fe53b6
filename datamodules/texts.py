"""A split of texts, read a batch at a time."""

import numpy as np
import torch
from torch import Tensor


class TextRows:
    """Texts in memory with their `lengths` (N,), so that a loader can put equally long ones together.

    Args:
        texts: ASCII without NUL.
        labels: one for each; None where there are none (read as -1).
        groups: the name of the group of each; None where there are none.
    """

    def __init__(self, texts: list[bytes], labels: list[int] | None = None, groups: list[str] | None = None):
        self.texts, self.groups = texts, groups
        self.labels = torch.full((len(texts),), -1) if labels is None else torch.tensor(labels)
        self.lengths = np.array([len(text) for text in texts])

    def __len__(self) -> int:
        return len(self.texts)

    def __getitems__(self, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in the split (B,) -> codes uint8 (B, T), 0 after a text's end, labels (B,), index (B,)"""
        longest = max(1, *self.lengths[positions])
        padded = b"".join(self.texts[i].ljust(longest, b"\0") for i in positions)
        codes = torch.frombuffer(bytearray(padded), dtype=torch.uint8).view(-1, longest)
        index = torch.as_tensor(positions)
        return codes, self.labels[index], index

    def select_rows(self, rows: np.ndarray) -> "TextRows":
        """Return the split of the texts at some positions."""
        groups = self.groups and [self.groups[i] for i in rows]
        return TextRows([self.texts[i] for i in rows], self.labels[rows].tolist(), groups)
