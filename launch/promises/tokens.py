"""What an encoder of patches promises: tokens, of some patches alone or with some masked, and attention."""

import inspect

import torch
from torch import Tensor, nn

from launch.promises.promise import Finding, PromiseCheck, Subject, are_close, format_tensor

NO_TOKENS = "the encoder has no encode_tokens"


def has_option(encoder: nn.Module, name: str) -> bool:
    """Whether `encode_tokens` takes an argument of this name."""
    return hasattr(encoder, "encode_tokens") and name in inspect.signature(encoder.encode_tokens).parameters


def draw_patches(encoder: nn.Module, view: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a quarter of the patches of each image, in random order.

    Returns:
        Their positions int64 (B, M), and the views (B, C, H, W) with other pixels in all other patches.
    """
    rows, columns = encoder.grid(view)
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(len(view), rows * columns, generator=generator).argsort(1)
    keep = order[:, : max(1, rows * columns // 4)]
    hidden = torch.ones(len(view), rows * columns, dtype=torch.bool).scatter(1, keep, False)
    hidden = hidden.view(-1, 1, rows, columns)
    for axis, (side, cells) in enumerate(zip(view.shape[2:], (rows, columns), strict=True), start=2):
        hidden = hidden.repeat_interleave(side // cells, axis)
    return keep, torch.where(hidden, view.flip(0) + 1, view)


@torch.no_grad()
def measure_encode_tokens(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "encode_tokens"):
        return None, "the encoder has none: no methods that hide patches"
    rows, columns = encoder.grid(subject.view)
    features, tokens = encoder.encode_tokens(subject.view)
    measured = f"grid {rows}x{columns}, features {format_tensor(features)}, tokens {format_tensor(tokens)}"
    kept = tokens.ndim == 3 and tokens.shape[:2] == (len(subject.view), rows * columns)
    same = are_close(features, encoder(subject.view))
    return kept and same, measured if same else f"{measured}; features are not those of forward"


@torch.no_grad()
def measure_keep(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not has_option(encoder, "keep"):
        return None, NO_TOKENS if not hasattr(encoder, "encode_tokens") else "encode_tokens has no keep"
    keep, other = draw_patches(encoder, subject.view)
    tokens, of_other = (encoder.encode_tokens(view, keep=keep)[1] for view in (subject.view, other))
    if tokens.shape[:2] != keep.shape:
        return False, f"{keep.shape[1]} patches are kept and tokens are {format_tensor(tokens)}"
    if not are_close(tokens, of_other):
        return False, "tokens of kept patches depend on the pixels of hidden ones"
    in_order = are_close(encoder.encode_tokens(subject.view, keep=keep.flip(1))[1], tokens.flip(1))
    if not in_order:
        return False, "tokens are not in the order of keep"
    return True, f"tokens {format_tensor(tokens)} depend on no hidden pixel, and come in the order of keep"


@torch.no_grad()
def measure_mask(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not has_option(encoder, "mask"):
        return None, NO_TOKENS if not hasattr(encoder, "encode_tokens") else "encode_tokens has no mask"
    keep, other = draw_patches(encoder, subject.view)
    width = encoder.encode_tokens(subject.view)[1].shape[2]
    rows, columns = encoder.grid(subject.view)
    mask = torch.ones(len(keep), rows * columns, dtype=torch.bool).scatter(1, keep, False)
    token = torch.randn(width, generator=torch.Generator().manual_seed(0))
    tokens, of_other, of_zeros = (
        encoder.encode_tokens(view, mask=mask, mask_token=values)[1]
        for view, values in ((subject.view, token), (other, token), (subject.view, 0 * token))
    )
    if tokens.shape[:2] != mask.shape:
        return False, f"tokens are {format_tensor(tokens)}, {mask.shape[1]} patches an image are there"
    if not are_close(tokens, of_other):
        return False, "tokens depend on the pixels of masked patches"
    reads = not are_close(tokens, of_zeros, 1e-6)
    end = "with mask_token in their place" if reads else "and mask_token is not read"
    return reads, f"tokens {format_tensor(tokens)} depend on no masked pixel, {end}"


@torch.no_grad()
def measure_attention(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "attention"):
        return None, "the encoder has none"
    weights = encoder.attention(subject.view)
    shape_fits = weights.ndim == 5 and weights.shape[1] == len(subject.view)
    if not shape_fits or weights.shape[3] != weights.shape[4]:
        return False, format_tensor(weights)
    gap = float((weights.sum(-1) - 1).abs().max())
    kept = gap < 1e-3 and bool((weights >= 0).all())
    return kept, f"{format_tensor(weights)}, rows sum to 1 up to {gap:.1e}"


TOKEN_CHECKS = [
    PromiseCheck(
        "encode_tokens",
        measure_encode_tokens,
        "return forward's features and tokens (B, N, D), N the cells of grid",
    ),
    PromiseCheck(
        "keep", measure_keep, "take the patches at keep (B, M), in its order, before the first block"
    ),
    PromiseCheck(
        "mask", measure_mask, "put mask_token in the place of masked embeddings before the first block"
    ),
    PromiseCheck(
        "attention", measure_attention, "return weights after the softmax, (layers, B, heads, T, T)"
    ),
]
