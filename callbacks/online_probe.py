"""How well are classes linearly separable right now? A probe trained beside the method, on features it can't touch."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.functional.classification import multiclass_accuracy

from callbacks.features import Features
from callbacks.linear_probe import LinearProbe


class OnlineProbe(Callback):
    """A linear classifier on standardised features of the training step: `train/` and `val/online_probe_top1`.

    Rows without a label are ignored. Where no training example has one, a converged probe is fitted on the bank at each
    validation instead: `val/bank_probe_top1`. Cost: under 1 % of a ResNet's step.

    A monitor: it learns from augmented views and while the features change, and so stays some points below Protocol's
    converged probe, whatever its learning rate (1e-3 to 1e-2, constant or falling, differ by a point on CIFAR-10).

    Args:
        lr: learning rate of its own Adam.
    """

    def __init__(self, lr: float = 1e-2):
        self.lr = lr
        self.probe: nn.Module | None = None
        self.restored: dict | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        classes = trainer.datamodule.num_classes
        if stage != "fit" or not classes:
            return
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(module.encoder.dim, classes)
        self.probe = nn.Sequential(nn.BatchNorm1d(module.encoder.dim, affine=False), linear)
        for parameter in self.probe.parameters():
            nn.init.zeros_(parameter)
        self.accuracy = MulticlassAccuracy(
            classes, average="micro", ignore_index=-1, validate_args=False, sync_on_compute=False
        )
        self.accuracy.persistent(True)
        self.optimizer = torch.optim.Adam(self.probe.parameters(), self.lr)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is None:
            return
        self.probe.to(module.device)
        self.accuracy.to(module.device)
        if self.restored:
            self.probe.load_state_dict(self.restored["probe"])
            self.accuracy.load_state_dict(self.restored["accuracy"])
            self.optimizer.load_state_dict(self.restored["optimizer"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.probe is None:
            return
        # every process takes the same step, on the whole batch
        features = module.all_gather(outputs["features"]).view(-1, module.encoder.dim)
        labels = module.all_gather(batch[1]).view(-1)
        self.probe.train()
        scores = self.probe(features)  # (N, K)
        known = (labels >= 0).sum().clamp(min=1)
        loss = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum") / known
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.accuracy.update(scores.detach(), labels)

    def saw_labels(self) -> bool:
        """Whether a training example of this epoch had a label."""
        return int(self.accuracy.tp.sum() + self.accuracy.fn.sum()) > 0

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is None or trainer.sanity_checking:
            return
        features, labels, _ = Features.of(trainer).split(trainer).labelled()
        if not len(labels):
            return
        if self.saw_labels():
            self.log_accuracy(module, "val/online_probe_top1", self.scores(features), labels)
        elif len(Features.of(trainer).bank(trainer, module).labels):
            probe = Features.of(trainer).probe(trainer, module)
            self.log_accuracy(module, "val/bank_probe_top1", probe.scores(features), labels)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is not None and self.saw_labels():
            module.log("train/online_probe_top1", self.accuracy.compute())
            self.accuracy.reset()

    @torch.no_grad()
    def linear(self) -> LinearProbe | None:
        """The same as one linear map of raw features; None where it has learned from no label."""
        if self.probe is None or not self.optimizer.state:
            return None
        norm, linear = self.probe
        weight = linear.weight / (norm.running_var + norm.eps).sqrt()  # (K, D)
        return LinearProbe(weight, linear.bias - weight @ norm.running_mean)

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, K)"""
        return self.probe.eval()(features)

    def log_accuracy(self, module: LightningModule, name: str, scores: Tensor, labels: Tensor) -> None:
        accuracy = multiclass_accuracy(scores, labels, scores.shape[1], average="micro", validate_args=False)
        module.log(name, accuracy, prog_bar=True)

    def state_dict(self) -> dict:
        if self.probe is None:
            return {}
        parts = {"probe": self.probe, "accuracy": self.accuracy, "optimizer": self.optimizer}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict) -> None:
        self.restored = state
