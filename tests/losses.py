"""What tests of losses share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def draw_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_pair(images: int, dim: int = 5, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Projections of two views that resemble each other."""
    z1 = draw_normal(images, dim)
    return z1, z1 + spread * draw_normal(images, dim, seed=1)


def assert_same_gradients(
    fast: Callable, slow: Callable, *inputs: Tensor, reached: Sequence[int] | None = None
) -> None:
    """A loss of float32 inputs and its gradients are those of the same in float64.

    Args:
        fast, slow: of the inputs, a scalar.
        reached: the inputs that a gradient reaches; all if None.
    """
    ours, theirs = (
        [x.clone().to(dtype).requires_grad_() for x in inputs] for dtype in (torch.float32, torch.float64)
    )
    loss, expected = fast(*ours), slow(*theirs)
    torch.testing.assert_close(loss.double(), expected.double(), atol=1e-5, rtol=1e-5)
    loss.backward()
    expected.backward()
    for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        if reached is None or i in reached:
            torch.testing.assert_close(x.grad.double(), y.grad, atol=1e-5, rtol=1e-4)
        else:
            assert x.grad is None and y.grad is None, i
