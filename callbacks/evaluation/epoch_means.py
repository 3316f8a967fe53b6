"""`SPLIT/loss` and what else the steps measure, as means over an epoch."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from common.batch import Batch


class WeightedMeans:
    """Means of the metrics that steps return, weighted by how many examples or labels each is a mean over.

    No value is read while they are added up, which would wait for a GPU; NaN makes a mean NaN.
    """

    def __init__(self):
        self.sums: dict[str, Tensor] = {}  # name -> (weighted sum, weight)

    def add_step(self, outputs: dict[str, Any]) -> None:
        for name, value in outputs.get("metrics", {}).items():
            count = outputs["count"]
            # filled on the device: a copy from the host would be waited for
            weight = (
                count.float()
                if isinstance(count, Tensor)
                else torch.full_like(value, count, dtype=torch.float32)
            )
            row = torch.stack([value.float() * weight, weight])
            total = self.sums.get(name)
            self.sums[name] = row if total is None else total.to(row.device) + row

    def reduce_sums(self, trainer: Trainer) -> dict[str, Tensor]:
        """Add up the sums of all processes, which must all ask."""
        return {
            name: trainer.strategy.reduce(row.clone(), reduce_op="sum") for name, row in self.sums.items()
        }

    def log_means(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        """Log `SPLIT/NAME` of what has any weight, and begin anew."""
        for name, (total, weight) in self.reduce_sums(trainer).items():
            if weight > 0:  # else no example has a label for what is measured
                module.log(f"{split}/{name}", total / weight)
        self.sums = {}


class EpochMeans(Callback):
    """Logs the means over an epoch of all that steps return as `metrics`, the loss among them: `SPLIT/NAME`.

    At the Trainer's log steps also `train/NAME_step`, of a single batch, and the learning rate as `lr`. Where
    validations come every so many batches, training means are those since the last one. Its state has the sums of an
    unfinished epoch, of all processes, so that a resumed epoch's mean is the whole epoch's. Launch puts it in.
    """

    def __init__(self):
        self.means = {split: WeightedMeans() for split in ("train", "val", "test")}
        self.names: list[str] = []  # of what the steps of this run measure

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_train_batch_start(self, trainer, module, batch: Batch, batch_idx: int) -> None:
        # asked before the step: its end counts one more, and the scheduler has moved the rate by then
        self.log_due = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.add_outputs("train", outputs)
        if self.log_due and outputs["count"] > 0:
            for name, value in outputs["metrics"].items():  # a log costs 0.6 ms: not each step
                module.log(f"train/{name}_step", value, prog_bar=name == "loss", sync_dist=True)
            module.log("lr", self.learning_rate)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.add_outputs("val", outputs)

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.add_outputs("test", outputs)

    def add_outputs(self, split: str, outputs: dict[str, Any]) -> None:
        self.means[split].add_step(outputs)
        self.names += [name for name in outputs.get("metrics", {}) if name not in self.names]

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not validates_by_steps(trainer):
            self.means["train"].log_means(trainer, module, "train")

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.means["val"].log_means(trainer, module, "val")
        if validates_by_steps(trainer):
            # so that both curves have the same points
            self.means["train"].log_means(trainer, module, "train")

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.means["test"].log_means(trainer, module, "test")

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": {
                f"{split}/{name}": row
                for split, means in self.means.items()
                for name, row in means.reduce_sums(self.trainer).items()
            }
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, row in state["sums"].items():
            split, name = key.split("/", 1)
            # the first process goes on with the sums of all
            self.means[split].sums[name] = row if self.trainer.is_global_zero else torch.zeros_like(row)


def validates_by_steps(trainer: Trainer) -> bool:
    """Whether validations come every so many batches, in any epoch, and have begun to."""
    batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return trainer.check_val_every_n_epoch is None and batches >= (trainer.val_check_batch or 0)
