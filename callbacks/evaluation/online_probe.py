"""How well are classes linearly separable right now? A probe trained beside the method, on features it can't touch."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

from callbacks.evaluation.features import Features, NotFiniteError
from callbacks.measures.linear_probe import LinearProbe
from common.ranges import PositiveFloat


class OnlineProbe(Callback):
    """Trains a linear classifier on standardized features of the step: `train/` and `val/online_probe_top1`.

    Rows without a label are ignored. Where no training example has one, or a step has a single row or no features, a
    converged probe is fitted on the bank at each validation instead: `val/bank_probe_top1`. Cost: under 1 % of a
    ResNet's step.

    A monitor: it learns from augmented views and while the features change, and so stays some points below Protocol's
    converged probe, whatever its learning rate (1e-3 to 1e-2, constant or falling, differ by a point on CIFAR-10).

    Args:
        lr: learning rate of its own Adam.
    """

    def __init__(self, lr: PositiveFloat = 1e-2):
        self.lr = lr
        self.probe: nn.Module | None = None
        self.resume_state: dict | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        classes = trainer.datamodule.num_classes
        if stage != "fit" or not classes:
            return
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(module.encoder.dim, classes)
        self.probe = nn.Sequential(nn.BatchNorm1d(module.encoder.dim, affine=False), linear)
        for parameter in self.probe.parameters():
            nn.init.zeros_(parameter)
        self.optimizer = torch.optim.Adam(self.probe.parameters(), self.lr, fused=True)
        self.counts = torch.zeros(2, dtype=torch.long)  # of this epoch's rows with a label: right ones, all
        # of this epoch: those with features that are not finite
        self.bad_rows = torch.zeros((), dtype=torch.long)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is None:
            return
        self.probe.to(module.device)
        self.counts, self.bad_rows = self.counts.to(module.device), self.bad_rows.to(module.device)
        if self.resume_state:
            self.probe.load_state_dict(self.resume_state["probe"])
            self.optimizer.load_state_dict(self.resume_state["optimizer"])
            self.optimizer.param_groups[0]["lr"] = self.lr  # the one that is given now
            self.counts.copy_(self.resume_state.get("seen", self.counts))

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.probe is None or "features" not in outputs:
            return
        # every process takes the same step, on the whole batch
        features = module.all_gather(outputs["features"]).view(-1, module.encoder.dim)
        labels = module.all_gather(batch.labels).view(-1)
        if len(labels) < 2:  # a single row has no variance to standardize by
            return
        norm, linear = self.probe.train()
        finite = features.isfinite().all(1)
        self.bad_rows += (~finite).sum()
        features = norm(torch.where(finite[:, None], features, 0.0))
        scores = linear(features)  # (N, K)
        has_label = (labels >= 0) & finite
        self.counts += torch.stack([(scores.argmax(1) == labels).sum(), has_label.sum()])
        # the gradient of the mean cross-entropy of rows with a label, written out, which spares autograd
        truth = labels[:, None] == torch.arange(scores.shape[1], device=labels.device)
        errors = (scores.softmax(1) - truth.float()) * (has_label / has_label.sum().clamp(min=1))[:, None]
        linear.weight.grad, linear.bias.grad = errors.T @ features, errors.sum(0)
        self.optimizer.step()

    def saw_labels(self) -> bool:
        """Whether a training example of this epoch had a label."""
        return bool(self.counts[1] > 0)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is None or trainer.sanity_checking:
            return
        try:
            self.score_validation(trainer, module)
        except NotFiniteError as error:
            rank_zero_warn(f"OnlineProbe: no accuracy on validation in this epoch, since {error}")

    def score_validation(self, trainer: Trainer, module: LightningModule) -> None:
        features, labels, _ = Features.find_in(trainer).collect_split(trainer).select_labeled()
        if not len(labels):
            return
        if self.saw_labels():
            self.log_accuracy(module, "val/online_probe_top1", self.score_classes(features), labels)
        elif len(Features.find_in(trainer).encode_bank(trainer, module).labels):
            probe = Features.find_in(trainer).fit_bank_probe(trainer, module)
            self.log_accuracy(module, "val/bank_probe_top1", probe.score_classes(features), labels)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.probe is None:
            return
        if self.bad_rows > 0:
            rank_zero_warn(
                f"OnlineProbe: the features of {int(self.bad_rows)} training rows of this epoch are not finite; it "
                "left them out"
            )
            self.bad_rows.zero_()
        if self.saw_labels():
            module.log("train/online_probe_top1", self.counts[0] / self.counts[1])
            self.counts.zero_()

    @torch.no_grad()
    def to_linear_probe(self) -> LinearProbe | None:
        """Fold standardizing into one linear map of raw features; None where the probe has learned from no label."""
        if self.probe is None or not self.probe[1].weight.any():  # as initialized
            return None
        norm, linear = self.probe
        weight = linear.weight / (norm.running_var + norm.eps).sqrt()  # (K, D)
        return LinearProbe(weight, linear.bias - weight @ norm.running_mean)

    @torch.no_grad()
    def score_classes(self, features: Tensor) -> Tensor:
        """Features (N, D) -> class scores (N, K)."""
        return self.probe.eval()(features)

    def log_accuracy(self, module: LightningModule, name: str, scores: Tensor, labels: Tensor) -> None:
        accuracy = multiclass_accuracy(scores, labels, scores.shape[1], average="micro", validate_args=False)
        module.log(name, accuracy, prog_bar=True)

    def state_dict(self) -> dict:
        if self.probe is None:
            return {}
        return {
            "probe": self.probe.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.counts,
        }

    def load_state_dict(self, state: dict) -> None:
        self.resume_state = state
