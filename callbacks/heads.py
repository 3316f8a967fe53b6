"""Class scores for any method: by its own classifier or, where it has none, by a probe on its features."""

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from callbacks.features import Features
from callbacks.linear_probe import LinearProbe, fit_probe
from callbacks.online_probe import OnlineProbe

NO_HEAD = "there is no classifier, and no training example has a label to fit a probe on"


def linear_head(trainer: Trainer, module: LightningModule) -> tuple[LinearProbe, str] | None:
    """What turns features into class scores, and its name for a caption.

    The module's `head` where it is a linear layer, else the online probe of this fit if it saw labels, else a converged
    probe on the bank; None where that has no labels. All processes must ask, and the data must have classes.
    """
    head = getattr(module, "head", None)
    if isinstance(head, nn.Linear):
        return LinearProbe(head.weight.detach().float(), head.bias.detach().float()), "classifier"
    for callback in trainer.callbacks:
        if isinstance(callback, OnlineProbe) and (linear := callback.linear()) is not None:
            return linear, "online probe"
    features = Features.of(trainer)
    bank = features.bank(trainer, module)
    if not len(bank.labels):
        return None
    if features.probe is None or features.probe[0] is not bank:  # other eyes ask, too
        features.probe = bank, fit_probe(bank.features, bank.labels, trainer.datamodule.num_classes)
    return features.probe[1], "linear probe"
