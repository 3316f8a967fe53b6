"""DINO's loss: the student's distribution over prototypes of one view against the teacher's of another."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.ranges import PositiveInt, UnitInterval


class Centering(nn.Module):
    """The teacher's distributions over prototypes: logits less their running mean, sharpened.

    Without the mean one prototype would take all, without the low temperature all would be equal. A call only notes the
    mean of its batch; `update` moves the running mean by it, once the batch has been learned from.

    Args:
        prototypes: K.
        momentum: share of itself that the running mean keeps at a batch.

    Caron et al. 2021, eq. 4, https://arxiv.org/abs/2104.14294
    """

    def __init__(self, prototypes: PositiveInt, momentum: UnitInterval):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(prototypes))

    def forward(
        self, logits: Tensor, temperature: float, gather=lambda rows: rows, mask: Tensor | None = None
    ) -> Tensor:
        """Logits (..., K), as many on all processes, -> distributions (..., K), float32.

        Args:
            gather: (1, K) on each process -> (processes, K) of all.
            mask: bool (...), true for the R logits whose distributions (R, K) are asked for; the mean is that of all.
        """
        logits = logits.float()
        self.batch_mean = gather(logits.mean(tuple(range(logits.ndim - 1)))[None]).mean(0)
        logits = logits if mask is None else logits[mask]
        return ((logits - self.center) / temperature).softmax(-1)

    def update(self) -> None:
        self.center.lerp_(self.batch_mean, 1 - self.momentum)


def self_distillation(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the student's views against the targets of all other views.

    Args:
        student: logits (V, B, K), those of the teacher's G views first.
        targets: distributions (G, B, K) of the teacher; row g is of the same view as the student's row g.
        temperature: of the student's softmax.

    Returns:
        (B,), means over the G (V - 1) pairs of different views; log K where all of the student's logits are equal.

    Caron et al. 2021, eq. 3 and algorithm 1, https://arxiv.org/abs/2104.14294
    """
    log_p = F.log_softmax(student.float() / temperature, dim=-1)
    views, others = len(student), len(targets)
    every_pair = (targets.sum(0) * log_p.sum(0)).sum(1)
    same_view = (targets * log_p[:others]).sum((0, 2))
    return (same_view - every_pair) / (others * (views - 1))
