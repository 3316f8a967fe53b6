"""Class scores for any method: by its own classifier or, where it has none, by a probe on its features."""

from typing import NamedTuple

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from callbacks.evaluation.features import Features, FeatureSet
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.measures.linear_probe import LinearProbe

NO_HEAD = "there is no classifier, and no training example has a label to fit a probe on"


class LabeledScores(NamedTuple):
    """Labeled examples of a split, the linear head that scores them, and its name for a caption."""

    examples: FeatureSet
    head: LinearProbe
    head_name: str

    def compute_probabilities(self) -> Tensor:
        """Compute the probability of each class, (N, K) float64."""
        return self.head.score_classes(self.examples.features).double().softmax(1)


def find_linear_head(trainer: Trainer, module: LightningModule) -> tuple[LinearProbe, str] | None:
    """Find what turns features into class scores, and its name for a caption.

    The module's `head` where it is a linear layer, else the online probe of this fit if it saw labels, else a converged
    probe on the bank; None where that has no labels. All processes must ask, and the data must have classes.
    """
    head = getattr(module, "head", None)
    if isinstance(head, nn.Linear):
        return LinearProbe(head.weight.detach().float(), head.bias.detach().float()), "classifier"
    for callback in trainer.callbacks:
        if isinstance(callback, OnlineProbe) and (linear := callback.to_linear_probe()) is not None:
            return linear, "online probe"
    features = Features.find_in(trainer)
    if not len(features.encode_bank(trainer, module).labels):
        return None
    return features.fit_bank_probe(trainer, module), "linear probe"
