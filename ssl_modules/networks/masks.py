"""Blocks of patches that an encoder does not see, drawn from a batch's key."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from common.batch import BatchKey

TRIES = 20  # how often places are drawn until enough patches are left beside the blocks


def draw_block(
    generator: torch.Generator, grid: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int]:
    """Draw how many rows and columns of patches a block has, at least one and at most the grid's.

    Args:
        grid: h, w.
        scale: its share of all patches is uniform between these.
        aspect: rows / columns, likewise.
    """
    share, ratio = (low + (high - low) * draw_number(generator) for low, high in (scale, aspect))
    area = share * grid[0] * grid[1]
    sides = math.sqrt(area * ratio), math.sqrt(area / ratio)
    rows, columns = (min(max(1, round(side)), most) for side, most in zip(sides, grid, strict=True))
    return rows, columns


def draw_number(generator: torch.Generator) -> float:
    """Uniform in [0, 1)."""
    return float(torch.rand((), generator=generator))


def place_blocks(corners: Tensor, rows: Tensor | int, columns: Tensor | int, grid: tuple[int, int]) -> Tensor:
    """Mark blocks of patches.

    Args:
        corners: (..., 2), uniform in [0, 1): where the block's first row and column are, between those that let it lie
            within the grid.
        rows, columns: of the blocks, (...) or the same of all.
        grid: h, w.

    Returns:
        bool (..., h * w), true in the block.
    """
    inside = []
    for corner, length, side in zip(corners.unbind(-1), (rows, columns), grid, strict=True):
        length = torch.as_tensor(length)[..., None]
        first, place = (corner[..., None] * (side - length + 1)).floor(), torch.arange(side)
        inside.append((place >= first) & (place < first + length))
    return (inside[0][..., :, None] & inside[1][..., None, :]).flatten(-2)


def draw_context_and_targets(
    key: BatchKey,
    grid: tuple[int, int],
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
    min_context: int = 10,
) -> tuple[Tensor, Tensor]:
    """Draw I-JEPA's blocks: those to be predicted, and what is left of a larger one to predict them from.

    A batch's blocks have one size, and each image has them at places of its own. What is left is cut, at random, to as
    many patches as the image with the fewest has in the batch of all processes.

    Args:
        key: of the batch.
        grid: h, w.
        targets: how many blocks are predicted, T.
        target_scale, target_aspect: of these; see `draw_block`.
        context_scale: of the larger one, which is square.
        min_context: images that are left with fewer patches draw new places, up to 20 times; the last time, all T
            blocks are at one place, so that some are left in any case.

    Returns:
        Places of patches in ascending order, on the CPU: context int64 (B, M), of which none is in a target, and
        targets int64 (B, T, L).

    Assran et al. 2023, section 3 and appendix A.1, https://arxiv.org/abs/2301.08243
    """
    generator = key.generator("block sizes")
    target = draw_block(generator, grid, target_scale, target_aspect)
    context = draw_block(generator, grid, context_scale, (1, 1))
    everyone = replace(key, local=slice(None))
    hidden = torch.ones(key.rows, targets, grid[0] * grid[1], dtype=torch.bool)
    seen = ~hidden[:, 0]
    for attempt in range(TRIES):
        corners = everyone.rand(targets + 1, 2, name=f"block places {attempt}")
        if attempt == TRIES - 1:
            corners[:, :targets] = corners[:, :1]
        again = (seen.sum(1) < min_context)[:, None]
        blocks = place_blocks(corners[:, :targets], *target, grid)
        left = place_blocks(corners[:, targets], *context, grid) & ~blocks.any(1)
        hidden, seen = torch.where(again[..., None], blocks, hidden), torch.where(again, left, seen)
    count = seen.sum(1).min()
    order = everyone.rand(seen.shape[1], name="context") + seen  # those that are seen come last
    kept = order.argsort(1, descending=True)[key.local, :count].sort(1).values
    return kept, hidden[key.local].nonzero()[:, 2].view(len(kept), targets, -1)
