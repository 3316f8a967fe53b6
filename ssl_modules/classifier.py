"""A linear head on any encoder: what are its features worth, and what does supervision reach?"""

from typing import Literal

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, ShareBelowOne
from ssl_modules.base import SSLModule
from ssl_modules.losses.supervised import label_losses
from ssl_modules.optim import parameter_groups
from ssl_modules.supervision import count_outputs, encode_split


class Classifier(SSLModule):
    """Predict labels from features by a linear layer.

    |           | `frozen: true`      | `frozen: false` |
    |-----------|---------------------|-----------------|
    | `ckpt`    | I linear probing    | fine-tuning     |
    | no `ckpt` | III random features | II supervised   |

    A frozen encoder does not change by one bit, batch-norm statistics included. It runs once over validation images,
    and once over training images where the data config asks for no augmentation. `loss` and, for classes, `top1` are
    logged as means over known labels; `losses` are NaN for examples without any.

    Args:
        frozen: train the head alone.
        encoder_lr: learning rate of the encoder; the optimizer's, which the head has, if None.
        target: `class` is cross-entropy, `regression` squared error, `fractions` binary cross-entropy with labels in
            [0, 1].
        label_smoothing: share of each label that is spread evenly over all classes, in the loss of every split.
        num_outputs: K; as many as the data need if None.
    """

    def __init__(
        self,
        frozen: bool = False,
        encoder_lr: PositiveFloat | None = None,
        target: Literal["class", "regression", "fractions"] = "class",
        label_smoothing: ShareBelowOne = 0.0,
        num_outputs: PositiveInt | None = None,
        **shared,
    ):
        super().__init__(**shared)
        self.frozen, self.encoder_lr = frozen, encoder_lr
        self.target, self.label_smoothing = target, label_smoothing
        self.check()
        # a head that waits for the data must not depend on the generator then: DDP seeds it anew
        self.seed = int(torch.randint(2**62, ()))
        self.head = nn.Linear(self.encoder.dim, num_outputs) if num_outputs else None
        self.monitor = ("val/loss", "min")
        if target == "class":
            self.monitor = ("val/top1", "max")
        self.cache: dict[str, Tensor | None] = {}  # split: features (N, D), where they are computed once
        self.encoder.requires_grad_(not frozen)
        self.train()

    def check(self) -> None:
        """Raises where options contradict each other."""
        if self.frozen and self.encoder_lr is not None:
            raise MisconfigurationException(
                f"Classifier: encoder_lr is {self.encoder_lr:g} and a frozen encoder does not learn: "
                "leave it out, or set frozen to false"
            )
        if self.label_smoothing and self.target != "class":
            raise MisconfigurationException(
                f"Classifier: label_smoothing is {self.label_smoothing:g} with target {self.target}: "
                "it is for target class alone"
            )

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()  # batch norm keeps its statistics, too
        return self

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"cache": {}}  # a copy may be shown other examples

    def setup(self, stage: str) -> None:
        if self.head is None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.seed)
                self.head = nn.Linear(self.encoder.dim, count_outputs(self.trainer.datamodule, self.target))
        super().setup(stage)
        self.cache = {}
        if stage == "fit" and self.frozen:
            self.cache = dict.fromkeys(["val"] if self.trainer.datamodule.augments else ["train", "val"])

    def on_fit_start(self) -> None:
        needed = count_outputs(self.trainer.datamodule, self.target)
        if self.head.out_features != needed:
            raise MisconfigurationException(
                f"Classifier: num_outputs is {self.head.out_features} and the data need {needed}: leave it out"
            )
        super().on_fit_start()

    def features(self, batch: Batch) -> Tensor:
        """(B, D) of the first view, from the cache if the batch's split has one."""
        split = batch.key.split
        if split not in self.cache:
            return self.encode(batch.views[0]).float()
        if self.cache[split] is None:
            self.cache[split] = encode_split(self.encode, self.trainer.datamodule, split, self.device)
        return self.cache[split][batch.index]

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        labels, features = batch.labels, self.features(batch)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.head(features)  # (B, K)
        losses, has_label = label_losses(logits, labels, self.target, self.label_smoothing)
        count = has_label.sum().float()
        if self.training:  # gradients are averaged over processes, however many labels they have
            count = self.gather(count[None]).mean()
        divisor = count.clamp(min=1e-6)
        metrics = {"top1": (logits.argmax(1) == labels).sum() / divisor} if self.target == "class" else {}
        example_losses = losses.view(len(labels), -1).sum(1) / has_label.view(len(labels), -1).sum(1)  # (B,)
        more = {"logits": logits, "losses": example_losses}
        return self.outputs(losses.sum() / divisor, features, metrics, count, **more)

    validation_step = training_step

    def parameter_groups(self) -> list[dict]:
        encoder = parameter_groups(self.encoder, self.encoder, self.layer_decay)  # none where frozen
        if self.encoder_lr is not None:
            encoder = [{**group, "lr": self.encoder_lr} for group in encoder]
        return parameter_groups(self.head) + encoder

    def describe(self, images: int, note: str) -> str:
        pretrained = "pretrained weights" if getattr(self.encoder, "pretrained", False) else None
        if start := self.ckpt or pretrained:
            kind = f"{'I linear probing' if self.frozen else 'fine-tuning'} of {start}"
        else:
            kind = "III random features" if self.frozen else "II supervised from scratch"
        rate = "" if self.encoder_lr is None else f", learning rate of the encoder {self.encoder_lr:g}"
        cached = f"; features of {' and '.join(self.cache)} are computed once" if self.cache else ""
        return f"{kind}{rate}{cached}"
