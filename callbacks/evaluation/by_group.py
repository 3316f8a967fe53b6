"""Is the method as good on each part of the test split?"""

from collections.abc import Iterable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.evaluation.features import gather_feature_set


def accuracy_by_group(right: Tensor, groups: Iterable[str]) -> dict[str, tuple[float, int]]:
    """Group -> the share of its examples that are right, and their count.

    Args:
        right: (N,) bool, which examples are right.
        groups: the name of each example's group.
    """
    rows: dict[str, list[bool]] = {}
    for group, hit in zip(groups, right.tolist(), strict=True):
        rows.setdefault(group, []).append(hit)
    return {group: (sum(hits) / len(hits), len(hits)) for group, hits in sorted(rows.items())}


class ByGroup(Callback):
    """Accuracy of a classifier's head on each group of the test split, `test/top1/GROUP`, when the trainer tests.

    The data module's `groups_of(split)` has the name of each example's group: of tweets, their source. Cost: next to
    none.
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
            reason = (
                f"{type(data).__name__} has no groups" if groups is None else "the steps return no logits"
            )
            rank_zero_info(f"ByGroup: {reason}: no accuracy of each")
            return
        logits, labels, index = gather_feature_set(trainer, self.rows).select_labeled()
        right = (logits.argmax(1) == labels).cpu()
        accuracies = accuracy_by_group(right, [groups[i] for i in index.tolist()])
        module.log_dict({f"test/top1/{group}": accuracy for group, (accuracy, _) in accuracies.items()})
        texts = [f"{group or 'unnamed'} {100 * share:.1f} ({n})" for group, (share, n) in accuracies.items()]
        rank_zero_info(f"test, top-1 % of each group (and its examples): {', '.join(texts)}")
