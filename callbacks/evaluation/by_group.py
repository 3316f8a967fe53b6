"""Is the method as good on each part of the test split?"""

from collections.abc import Iterable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.evaluation.features import gather


def accuracy_by_group(right: Tensor, groups: Iterable[str]) -> dict[str, tuple[float, int]]:
    """Which examples are right (N,), and a name for each -> the share that is right and the count of each name."""
    rows: dict[str, list[bool]] = {}
    for group, hit in zip(groups, right.tolist(), strict=True):
        rows.setdefault(group, []).append(hit)
    return {group: (sum(hits) / len(hits), len(hits)) for group, hits in sorted(rows.items())}


class ByGroup(Callback):
    """Accuracy of a classifier's head on each group of the test split, `test/top1/GROUP`, when the trainer tests.

    Groups are what the data module's `groups_of(split)` names: of tweets, their source. Cost: none worth naming.
    """

    def __init__(self):
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.rows = []

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        if "logits" in outputs:
            self.rows.append((outputs["logits"], batch.labels, batch.index))

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        data = trainer.datamodule
        groups = data.groups_of("test") if hasattr(data, "groups_of") else None
        if groups is None or not self.rows:
            what = f"{type(data).__name__} has no groups" if groups is None else "the steps return no logits"
            rank_zero_info(f"ByGroup: {what}: no accuracy of each")
            return
        logits, labels, index = gather(trainer, self.rows).labeled()
        right = (logits.argmax(1) == labels).cpu()
        found = accuracy_by_group(right, [groups[i] for i in index.tolist()])
        module.log_dict({f"test/top1/{group}": accuracy for group, (accuracy, _) in found.items()})
        said = [f"{group or 'unnamed'} {100 * accuracy:.1f} ({n})" for group, (accuracy, n) in found.items()]
        rank_zero_info(f"test, top-1 % of each group (and its examples): {', '.join(said)}")
