"""The number format that the hardware is fast in."""

import torch


def fast_precision() -> str:
    """bf16-mixed where the hardware computes in it, else 32-true."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # oneDNN may be told to do without what the processor has
        fast = torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if fast else "32-true"
