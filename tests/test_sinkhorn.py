"""Assignments with equal shares, and SwAV's loss on them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor

from ssl_modules.losses.dino import self_distillation
from ssl_modules.losses.sinkhorn import sinkhorn
from tests.losses import draw_normal


def sinkhorn_in_loops(logits: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Listing A.1 of the SwAV paper, number by number, in float64; rows are images."""
    shares = (logits.double() / epsilon).exp().tolist()
    images, prototypes = logits.shape
    total = sum(map(sum, shares))
    shares = [[share / total for share in row] for row in shares]
    for _ in range(iterations):
        for k in range(prototypes):
            column = sum(row[k] for row in shares)
            for row in shares:
                row[k] /= column * prototypes
        for row in shares:
            whole = sum(row)
            row[:] = [share / (whole * images) for share in row]
    return torch.tensor([[share * images for share in row] for row in shares])


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_listing_of_the_paper(epsilon, iterations):
    logits = draw_normal(7, 4).clamp(-1, 1)
    expected = sinkhorn_in_loops(logits, epsilon, iterations)
    torch.testing.assert_close(sinkhorn(logits, epsilon, iterations=iterations).double(), expected.double())


def test_sinkhorn_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss.swav_loss")
    logits = draw_normal(32, 12).clamp(-1, 1)
    torch.testing.assert_close(sinkhorn(logits, 0.05), lightly.sinkhorn(logits, epsilon=0.05))


def test_after_many_iterations_prototypes_have_equal_shares():
    shares = sinkhorn(draw_normal(12, 4), 0.5, iterations=200)
    torch.testing.assert_close(shares.sum(1), torch.ones(12))
    torch.testing.assert_close(shares.sum(0), torch.full((4,), 3.0), atol=1e-4, rtol=1e-4)


def test_processes_together_assign_what_one_does():
    logits, rows, meet = draw_normal(12, 4), {}, Barrier(2)

    def assign(rank: int) -> Tensor:
        def gather(own: Tensor) -> Tensor:
            rows[rank] = own
            meet.wait(10)
            everyone = torch.cat([rows[0], rows[1]])
            meet.wait(10)
            return everyone

        return sinkhorn(logits.chunk(2)[rank], 0.3, gather)

    with ThreadPoolExecutor(2) as processes:
        parts = list(processes.map(assign, range(2)))
    torch.testing.assert_close(torch.cat(parts), sinkhorn(logits, 0.3))


@pytest.mark.parametrize("scale", [1e-6, 1e4, 1e30])
def test_it_is_finite_for_similarities_of_any_size(scale):
    shares = sinkhorn(draw_normal(6, 4) * scale, 0.05)
    assert shares.isfinite().all()
    torch.testing.assert_close(shares.sum(1), torch.ones(6))


def test_no_gradient_reaches_the_assignments():
    logits = draw_normal(6, 4).requires_grad_()
    assert not sinkhorn(logits, 0.05).requires_grad
    assert sinkhorn(logits.bfloat16(), 0.05).dtype == torch.float32


def test_swav_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    logits = draw_normal(4, 16, 12).clamp(-1, 1)  # two large crops, two small ones
    expected = lightly.SwaVLoss()(list(logits[:2]), list(logits[2:]))
    targets = torch.stack([sinkhorn(rows, 0.05) for rows in logits[:2]])
    torch.testing.assert_close(self_distillation(logits, targets, 0.1).mean(), expected.squeeze())
