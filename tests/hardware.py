"""What this processor can compute: tests of what it cannot are skipped, with the reason."""

from functools import cache

import torch
from torch import nn


@cache
def lstm_computes_in_bf16() -> bool:
    """oneDNN has a bf16 LSTM for x86 processors with AVX-512, not for those with AVX2 alone."""
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True
