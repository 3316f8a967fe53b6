"""Images as rows of patches: cutting, choosing and placing them."""

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import BatchKey


def check_patch_encoder(encoder: nn.Module, method: str) -> None:
    """Raise where a method that is made of patches has an encoder that is not."""
    if not hasattr(encoder, "encode_tokens"):
        raise MisconfigurationException(
            f"{method} needs an encoder of patches, as networks.vit.ViT, not a {type(encoder).__name__}"
        )
    norm_of_mean = getattr(getattr(encoder, "model", None), "fc_norm", None)
    if any(True for _ in (norm_of_mean or nn.Identity()).parameters()):
        raise MisconfigurationException(
            f"{method} learns from the tokens of patches, which this model of timm does not norm: add "
            "fc_norm: false to the encoder's options"
        )


def count_patches(encoder: nn.Module, size: int) -> tuple[int, int]:
    """How many rows h and columns w of patches an encoder cuts a square view of this side into."""
    return encoder.grid(torch.empty(1, encoder.in_channels, size, size, device="meta"))


def cut_patches(images: Tensor, patch: int) -> Tensor:
    """Images (B, C, H, W) -> pixels of their patches (B, N, patch * patch * C), in reading order, channels last."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def join_patches(patches: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Patches (B, h * w, patch * patch * C) -> images (B, C, h * patch, w * patch): the inverse of `cut_patches`."""
    x = patches.unflatten(2, (patch, patch, -1)).unflatten(1, grid)  # (B, h, w, patch, patch, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def draw_kept_patches(key: BatchKey, patches: int, hidden: float, name: str = "mask") -> Tensor:
    """Draw which patches of each image an encoder sees, as many of each.

    Args:
        key: of the batch; several processes draw their rows of one draw.
        patches: N.
        hidden: share of the patches that is not seen, between 0 and 1; at least one is, and one is not.
        name: of the draw.

    Returns:
        Their positions int64 (B, M), in ascending order, on the CPU.
    """
    if patches < 2:
        raise MisconfigurationException(f"{hidden:g} of {patches} patches are to be hidden: two are needed")
    count = min(max(1, round(patches * (1 - hidden))), patches - 1)
    return key.rand(patches, name=name).argsort(1)[:, :count].sort(1).values


def take_patches(x: Tensor, keep: Tensor | None) -> Tensor:
    """Rows (B, N, D) of patches -> those at the places `keep` (B, M), in its order; all if None."""
    return x if keep is None else x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))


def mask_patches(x: Tensor, mask: Tensor | None, mask_token: Tensor | None) -> Tensor:
    """Put a method's `mask_token` (D,) in the place of embedded patches (B, ..., D) where `mask` (B, N) is true."""
    if mask is None:
        return x
    if mask_token is None:
        raise ValueError("encode_tokens: a mask needs the mask_token that takes the masked patches' place")
    return torch.where(mask.reshape(*x.shape[:-1], 1), mask_token.to(x.dtype), x)


def mark_hidden(keep: Tensor, patches: int) -> Tensor:
    """Places (B, M) of the patches that are kept, of N -> bool (B, N), true where a patch is hidden."""
    hidden = torch.ones(len(keep), patches, dtype=torch.bool, device=keep.device)
    return hidden.scatter(1, keep, False)


def fill_hidden(images: Tensor, patch: int, keep: Tensor, fill: Tensor | None = None) -> Tensor:
    """Images (B, C, H, W) whose patches are those of `fill` (B, N, P), or 0, but for the ones at `keep` (B, M)."""
    patches = cut_patches(images, patch)
    hidden = mark_hidden(keep, patches.shape[1])[..., None]
    filled = patches.masked_fill(hidden, 0) if fill is None else torch.where(hidden, fill, patches)
    return join_patches(filled, patch, (images.shape[2] // patch, images.shape[3] // patch))


def sine_positions(
    dim: int,
    grid: tuple[int, int],
    reference: tuple[int, int] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Compute sines and cosines of the places of patches, a half of the channels each for column and row.

    Args:
        dim: D, a multiple of 4.
        grid: h, w.
        reference: the grid that spans the same extent with cells one apart; `grid` itself if None. Centers of cells
            are where interpolation of the reference's positions would put them.
        device: of the result.

    Returns:
        float32 (h * w, D): sin, cos of the column, then of the row, with wavelengths from 2 pi to 20,000 pi.

    He et al. 2021, appendix A.1, https://arxiv.org/abs/2111.06377; sines: Vaswani et al. 2017, section 3.5,
    https://arxiv.org/abs/1706.03762
    """
    rows, columns = (
        (torch.arange(cells, device=device) + 0.5) * (span / cells) - 0.5
        for cells, span in zip(grid, reference or grid, strict=True)
    )
    frequencies = 10_000 ** (-torch.arange(dim // 4, device=device) / (dim // 4))
    # (h, D / 2), (w, D / 2)
    by_row, by_column = (
        torch.cat([(places[:, None] * frequencies).sin(), (places[:, None] * frequencies).cos()], 1)
        for places in (rows, columns)
    )
    h, w = grid
    return torch.cat([by_column.repeat(h, 1), by_row.repeat_interleave(w, 0)], 1)
