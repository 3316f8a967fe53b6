"""Features for every eye: one pass over validation, at most one over the bank, shared by all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.measures.linear_probe import LinearProbe, fit_probe


class FeatureSet(NamedTuple):
    """Features (N, D) float32, labels (N,) or (N, T), and positions in their split (N,), in the order of the split."""

    features: Tensor
    labels: Tensor
    index: Tensor

    def labeled(self) -> "FeatureSet":
        """Only the rows that have a label."""
        known = self.labels >= 0 if self.labels.ndim == 1 else ~self.labels.isnan().all(1)
        return FeatureSet(*(tensor[known] for tensor in self))


@contextmanager
def looking(trainer: Trainer, *modules: torch.nn.Module) -> Iterator[None]:
    """Inside, eval mode, the trainer's precision and no gradients; afterwards everything is as before."""
    modes = {part: part.training for module in modules for part in module.modules()}
    device = trainer.strategy.root_device
    cuda = [device] if device.type == "cuda" else []
    try:
        for module in modules:
            module.eval()
        with torch.random.fork_rng(cuda), torch.no_grad(), trainer.precision_plugin.val_step_context():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def encode(trainer: Trainer, encoder: torch.nn.Module, split: str, via: Callable | None = None) -> FeatureSet:
    """A split through an encoder: one unaugmented view, features of all processes together.

    Args:
        encoder: view -> features; left in the mode it was found in.
        split: of the data module.
        via: what to do with a view instead of calling the encoder.
    """
    rows = []
    with looking(trainer, encoder):
        for batch in trainer.datamodule.batches(split, trainer.strategy.root_device):
            rows.append(((via or encoder)(batch.views[0]).float(), batch.labels, batch.index))
    return gather(trainer, rows)


def gather(trainer: Trainer, rows: list[tuple[Tensor, Tensor, Tensor]]) -> FeatureSet:
    """Batches of (features, labels, index) on each process -> all of them on every process, in the order of index."""
    columns = [torch.cat(column) for column in zip(*rows, strict=True)]
    if trainer.world_size > 1:
        counts = trainer.strategy.all_gather(torch.tensor(len(columns[0]), device=columns[0].device))
        columns = [_gather_uneven(trainer, column, counts) for column in columns]
    order = columns[2].argsort()
    return FeatureSet(*(column[order] for column in columns))


def _gather_uneven(trainer: Trainer, column: Tensor, counts: Tensor) -> Tensor:
    padded = column.new_zeros(int(counts.max()), *column.shape[1:])
    padded[: len(column)] = column
    shares = trainer.strategy.all_gather(padded)
    return torch.cat([share[:count] for share, count in zip(shares, counts.tolist(), strict=True)])


class Features(Callback):
    """Keeps what validation and test steps returned, and encodes the bank when the first eye of an epoch asks.

    Cost: none for validation features; one forward pass over the bank in the epochs where an eye wants it, and where
    one wants it a probe on the bank.
    """

    def __init__(self):
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []
        self.seen: FeatureSet | None = None
        self.banked: tuple[int, FeatureSet] | None = None
        self.probed: tuple[FeatureSet, LinearProbe] | None = None  # a bank, and a probe fitted on it

    @staticmethod
    def of(trainer: Trainer) -> "Features":
        """The trainer's one."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, Features)]
        if not found:
            raise MisconfigurationException(
                "this eye reads from callbacks.evaluation.features.Features: add it to trainer.callbacks"
            )
        return found[0]

    def split(self, trainer: Trainer) -> FeatureSet:
        """Features of the validation or test epoch that just ended. All processes must ask."""
        if self.seen is None:
            self.seen, self.rows = gather(trainer, self.rows), []
        return self.seen

    def bank(self, trainer: Trainer, module: LightningModule) -> FeatureSet:
        """Labeled training examples under the present encoder. All processes must ask."""
        if self.banked is None or self.banked[0] != trainer.global_step:
            self.banked = trainer.global_step, encode(trainer, module.encoder, "bank").labeled()
        return self.banked[1]

    def probe(self, trainer: Trainer, module: LightningModule) -> LinearProbe:
        """A converged probe on the bank, which must have labels. All processes must ask."""
        bank = self.bank(trainer, module)
        if self.probed is None or self.probed[0] is not bank:
            self.probed = bank, fit_probe(bank.features, bank.labels, trainer.datamodule.num_classes)
        return self.probed[1]

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.rows, self.seen = [], None

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.rows.append((outputs["features"], batch.labels, batch.index))

    on_test_epoch_start, on_test_batch_end = on_validation_epoch_start, on_validation_batch_end
