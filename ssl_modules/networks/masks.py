"""Blocks of patches that an encoder does not see, drawn from a batch's key."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from common.batch import BatchKey

TRIES = 20  # how often places are drawn until enough patches are left beside the blocks
BLOCKS = 40  # that may be tried to hide a share of the patches
LONGEST = 1 / 0.3  # the longer side of these blocks, by the shorter one


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
        if not again.any():
            break
        blocks = place_blocks(corners[:, :targets], *target, grid)
        left = place_blocks(corners[:, targets], *context, grid) & ~blocks.any(1)
        hidden, seen = torch.where(again[..., None], blocks, hidden), torch.where(again, left, seen)
    count = seen.sum(1).min()
    order = everyone.rand(seen.shape[1], name="context") + seen  # from 1 up where a patch is seen
    kept = order.argsort(1, descending=True)[key.local, :count].sort(1).values
    return kept, hidden[key.local].nonzero()[:, 2].view(len(kept), targets, -1)


def draw_view_masks(
    key: BatchKey, views: int, grid: tuple[int, int], ratio: tuple[float, float] = (0.1, 0.5)
) -> Tensor:
    """Draw the patches that are hidden in some views of each image: blocks, one after the other, as BEiT does.

    Half of every image's views (rounded down), at random, are masked. The paper masks each view with probability 1/2;
    here every batch has masked views on every process, and always as many.

    Args:
        key: of the batch.
        views: of each image, V.
        grid: h, w.
        ratio: the share of a masked view's patches that are hidden is uniform between these, or somewhat less: no
            block may hide more than that, and after ten in a row that would there are no more. One patch is hidden at
            least.

    Returns:
        bool (V, B, h * w), on the CPU.

    Zhou et al. 2021, section 3.3 and appendix E, https://arxiv.org/abs/2111.07832; blocks: Bao et al. 2021, algorithm
    1, https://arxiv.org/abs/2106.08254
    """
    masked = key.rand(views, name="masked views").argsort(1) < views // 2  # (B, V)
    share = ratio[0] + (ratio[1] - ratio[0]) * key.rand(views, name="hidden share")
    draws = key.rand(views, BLOCKS, 4, name="hidden blocks")
    mask = torch.zeros(*masked.shape, grid[0] * grid[1], dtype=torch.bool)
    mask[masked] = grow_masks(draws[masked], share[masked] * mask.shape[2], grid)
    return mask.transpose(0, 1).contiguous()


def grow_masks(draws: Tensor, wanted: Tensor, grid: tuple[int, int]) -> Tensor:
    """Hide one block after the other, each of a size and shape of its own, until enough is hidden.

    Args:
        draws: (R, BLOCKS, 4), uniform in [0, 1): area, shape and corner of each block that is tried.
        wanted: how many patches (R,) are hidden, at most.
        grid: h, w.

    Returns:
        bool (R, h * w), with a true one in each row.
    """
    smallest = (min(grid) // 3) ** 2
    mask = torch.zeros(len(draws), grid[0] * grid[1], dtype=torch.bool)
    failures = torch.zeros(len(draws), dtype=torch.int64)
    for draw in draws.unbind(1):
        left = wanted - mask.sum(1)
        area = smallest + draw[:, 0] * (left - smallest)
        aspect = (math.log(LONGEST) * (2 * draw[:, 1] - 1)).exp()
        rows, columns = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        block = place_blocks(draw[:, 2:], rows, columns, grid) & ~mask
        count = block.sum(1)
        suited = (rows < grid[0]) & (columns < grid[1]) & (count > 0) & (count <= left) & (failures < 10)
        failures = torch.where(suited, 0, failures + 1)
        mask |= block & suited[:, None]
    return mask | place_blocks(draws[:, 0, 2:], 1, 1, grid) & ~mask.any(1, keepdim=True)
