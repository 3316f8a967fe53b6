"""Features for every callback: one pass over validation, at most one over the bank, shared by all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.measures.linear_probe import LinearProbe, fit_probe
from common.splits import SPLITS


class NotFiniteError(ValueError):
    """Features are not finite, and measure nothing; the message says how many, and of which split."""


class FeatureSet(NamedTuple):
    """Features (N, D) float32, labels (N,) or (N, T), and positions in their split (N,), in the order of the split."""

    features: Tensor
    labels: Tensor
    index: Tensor

    def check_finite(self, split: str) -> "FeatureSet":
        """Return the set itself. Raise where a feature is NaN or infinite."""
        finite = self.features.isfinite().all(1)
        if not finite.all():
            bad, name = int((~finite).sum()), SPLITS.get(split, split)
            raise NotFiniteError(f"the features of {bad} of {len(finite)} {name} examples are not finite")
        return self

    def select_labeled(self) -> "FeatureSet":
        """Keep only the rows that have a label."""
        has_label = self.labels >= 0 if self.labels.ndim == 1 else ~self.labels.isnan().all(1)
        return self.select_rows(has_label)

    def select_rows(self, rows: Tensor) -> "FeatureSet":
        """Keep the rows at these positions, or where a mask (N,) is true."""
        return FeatureSet(*(column[rows] for column in self))


@contextmanager
def eval_mode(trainer: Trainer, *modules: torch.nn.Module) -> Iterator[None]:
    """Run the block in eval mode, in the trainer's precision and without gradients.

    Afterwards the modes of the modules and the states of the random generators are those from before.
    """
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


def extract_features(
    trainer: Trainer, encoder: torch.nn.Module, split: str, via: Callable | None = None
) -> FeatureSet:
    """Extract a split's features by an encoder from one unaugmented view, on all processes together.

    Args:
        encoder: view -> features; it keeps its mode.
        split: of the data module.
        via: called on a view in place of the encoder.
    """
    rows = []
    with eval_mode(trainer, encoder):
        for batch in trainer.datamodule.batches(split, trainer.strategy.root_device):
            rows.append(((via or encoder)(batch.views[0]).float(), batch.labels, batch.index))
    return gather_feature_set(trainer, rows)


def gather_feature_set(trainer: Trainer, rows: list[tuple[Tensor, Tensor, Tensor]]) -> FeatureSet:
    """Gather the batches of (features, labels, index) of all processes, on every process, in the order of index."""
    columns = [torch.cat(column) for column in zip(*rows, strict=True)]
    if trainer.world_size > 1:
        counts = trainer.strategy.all_gather(torch.tensor(len(columns[0]), device=columns[0].device))
        columns = [_gather_uneven(trainer, column, counts) for column in columns]
    order = columns[2].argsort()
    return FeatureSet(*(column[order] for column in columns))


def _gather_uneven(trainer: Trainer, column: Tensor, counts: Tensor) -> Tensor:
    padded = column.new_zeros(int(counts.max()), *column.shape[1:])
    padded[: len(column)] = column
    columns = trainer.strategy.all_gather(padded)
    return torch.cat([rows[:count] for rows, count in zip(columns, counts.tolist(), strict=True)])


def have_equal_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts on one device are equal, bit for bit but for the sign of zero."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Features(Callback):
    """Keeps what validation and test steps returned, and encodes the bank when the first callback of an epoch asks.

    Cost: none for validation features; one forward pass over the bank in the epochs where a callback asks for it, with
    a copy of the encoder's weights, and where one asks for it a probe on the bank.
    """

    def __init__(self):
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []
        self.split_features: FeatureSet | None = None
        self.bank: FeatureSet | None = None
        self.bank_step = -1
        self.bank_weights: dict[str, Tensor] = {}  # what the bank was encoded with
        self.bank_and_probe: tuple[FeatureSet, LinearProbe] | None = None

    @staticmethod
    def find_in(trainer: Trainer) -> "Features":
        """Find the trainer's callback that collects features. Raise where there is none."""
        for callback in trainer.callbacks:
            if isinstance(callback, Features):
                return callback
        raise MisconfigurationException(
            "this callback reads from callbacks.evaluation.features.Features: add it to trainer.callbacks"
        )

    def collect_split(self, trainer: Trainer) -> FeatureSet:
        """Collect the features of the validation or test epoch that just ended. All processes must ask.

        Raises:
            NotFiniteError: not all of them are finite.
        """
        if self.split_features is None:
            self.split_features, self.rows = gather_feature_set(trainer, self.rows), []
        return self.split_features.check_finite("test" if trainer.testing else "val")

    def encode_bank(self, trainer: Trainer, module: LightningModule) -> FeatureSet:
        """Encode the labeled training examples, once for all callbacks. All processes must ask.

        They are encoded anew at another step, and where the encoder has other weights at the same step, as where a
        callback swaps an average of the weights in and out.

        Raises:
            NotFiniteError: not all of their features are finite.
        """
        weights = module.encoder.state_dict()
        if self.bank_step != trainer.global_step or not have_equal_weights(weights, self.bank_weights):
            self.bank = extract_features(trainer, module.encoder, "bank").select_labeled()
            self.bank_step = trainer.global_step
            self.bank_weights = {name: weight.clone() for name, weight in weights.items()}
        return self.bank.check_finite("bank")

    def fit_bank_probe(self, trainer: Trainer, module: LightningModule) -> LinearProbe:
        """Fit a probe on the bank, which must have labels, until it converges. All processes must ask."""
        bank = self.encode_bank(trainer, module)
        if self.bank_and_probe is None or self.bank_and_probe[0] is not bank:
            probe = fit_probe(bank.features, bank.labels, trainer.datamodule.num_classes)
            self.bank_and_probe = bank, probe
        return self.bank_and_probe[1]

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.rows, self.split_features = [], None

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.rows.append((outputs["features"], batch.labels, batch.index))

    on_test_epoch_start, on_test_batch_end = on_validation_epoch_start, on_validation_batch_end
