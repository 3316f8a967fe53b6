"""What steps share: rows of all processes, the output that callbacks read, and the state of the random generators."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from common.batch import BatchKey


def gather_rows(module: LightningModule, z: Tensor) -> Tensor:
    """(B, ...) on each process -> (N, ...) of all, in the order of their ranks, with gradients."""
    if module._trainer is None or module.trainer.world_size == 1:
        return z
    # what lies otherwise in memory, rows and later their gradients, would be exchanged in another order
    rows = module.all_gather(z.contiguous(), sync_grads=True)
    if rows.requires_grad:
        rows.register_hook(Tensor.contiguous)
    return rows.flatten(0, 1)


def make_outputs(
    loss: Tensor,
    features: Tensor | None = None,
    metrics: dict[str, Tensor | float] | None = None,
    count: Tensor | int | None = None,
    **more: Tensor,
) -> dict[str, Any]:
    """The step output, of which everything but the loss is detached and float32 (Lightning detaches only the loss).

    Args:
        loss: scalar, the mean over the batch.
        features: (B, D) by the encoder; without them, in training, probes use the bank's.
        metrics: scalars that callbacks average over the epoch beside the loss.
        count: how many examples or labels these are means over; all examples if None.
        more: further entries that callbacks may read, one row an example.
    """
    more = more if features is None else {"features": features, **more}
    return {
        "loss": loss,
        "metrics": {
            name: to_scalar(value, loss) for name, value in {"loss": loss, **(metrics or {})}.items()
        },
        "count": len(features) if count is None else count,
        **{name: tensor.detach().float() for name, tensor in more.items()},
    }


def to_scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """A detached scalar; a number is filled in on the device, since a copy from the host would be waited for."""
    if isinstance(value, Tensor):
        return value.detach()
    return torch.full((), value, dtype=torch.float32, device=like.device)


def seed_generators(key: BatchKey, rank: int, device: torch.device) -> None:
    """Seed the global generators, which dropout draws from and no checkpoint holds, on each process anew."""
    seed = int(torch.randint(2**62, (), generator=key.generator())) + rank
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 1 ms where there is no GPU
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
