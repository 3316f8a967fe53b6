"""Empirical characteristic functions of projections, computed block by block."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# projections that are in memory at a time, in about eight tensors: of 0.5 MB on a CPU, which its caches hold
BLOCK, BLOCK_OF_DEVICES = 2**17, 2**22


class CharacteristicFunction(torch.autograd.Function):
    """Mean cosine and sine of t times a projection, over the rows of each view.

    Samples z (V, B, P) and directions (M, P) -> (2, T, V, M) at t = 0, step, 2 step, ... (T - 1) step.

    Cosine and sine are computed once; each further point is a rotation by the first. Forward and backward hold a block
    of projections at a time, where plain autograd keeps the (V, B, M, T) cosines and sines.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, directions: Tensor, step: float, points: int) -> Tensor:
        ctx.save_for_backward(z, directions)
        ctx.step = step
        means = z.new_zeros(2, points, len(z), len(directions))
        means[0, 0] = 1
        for block in split_rows(z, directions):
            cos, sin = turn_once(block, directions, step)
            real, imaginary = cos, sin
            for point in range(1, points):
                if point > 1:
                    real, imaginary = rotate(real, imaginary, cos, sin)
                means[0, point] += real.sum(1) / z.shape[1]
                means[1, point] += imaginary.sum(1) / z.shape[1]
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """By Horner's rule: the gradient by a projection is a polynomial in its cosine + i sine."""
        z, directions = ctx.saved_tensors
        points = grad.shape[1]
        times = torch.arange(points, device=z.device, dtype=z.dtype) * (ctx.step / z.shape[1])
        by_cos, by_sin = (grad * times[:, None, None])[:, :, :, None]  # (T, V, 1, M) each
        blocks = []
        for block in split_rows(z, directions):
            cos, sin = turn_once(block, directions, ctx.step)
            real, imaginary = by_sin[-1].expand_as(cos), by_cos[-1].expand_as(cos)
            for point in range(points - 2, -1, -1):
                real, imaginary = rotate(real, imaginary, cos, sin, by_sin[point], by_cos[point])
            with torch.autocast(z.device.type, enabled=False):
                blocks.append(real @ directions)
        return torch.cat(blocks, 1), None, None, None


def split_rows(z: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
    """Samples (V, B, P) in blocks of rows."""
    size = BLOCK if z.device.type == "cpu" else BLOCK_OF_DEVICES
    return z.split(max(1, size // (len(z) * len(directions))), 1)


def turn_once(z: Tensor, directions: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (V, B, M) of `step` times the projections."""
    with torch.autocast(z.device.type, enabled=False):
        angles = z @ (step * directions.T)
    return angles.cos(), angles.sin()


def rotate(
    real: Tensor,
    imaginary: Tensor,
    cos: Tensor,
    sin: Tensor,
    more_real: Tensor | None = None,
    more_imaginary: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(real + i imaginary) (cos + i sin) + more"""
    along = real * cos if more_real is None else torch.addcmul(more_real, real, cos)
    across = real * sin if more_imaginary is None else torch.addcmul(more_imaginary, real, sin)
    return along.addcmul_(imaginary, sin, value=-1), across.addcmul_(imaginary, cos)
