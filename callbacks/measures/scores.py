"""Scores of predictions where classes are uneven, which top-1 accuracy hides: every class counts as much."""

from collections.abc import Iterable

import numpy as np
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from torch import Tensor


def top1_accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of the examples, class scores (N, K) and labels (N,), whose class has the highest score."""
    return float((scores.argmax(1) == labels).float().mean())


def score_uneven(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute `balanced`, `f1` and, of two classes that both have examples, `auc`, as fractions.

    They are scikit-learn's balanced_accuracy_score, f1_score with average="macro" and roc_auc_score.

    Args:
        scores: of classes (N, K), where the highest is the prediction.
        labels: classes (N,).
    """
    truth, predicted = labels.cpu().numpy(), scores.argmax(1).cpu().numpy()
    present = np.unique(truth)  # balanced_accuracy_score warns of classes that are predicted alone
    balanced = recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    f1 = f1_score(truth, predicted, average="macro", zero_division=0)
    numbers = {"balanced": float(balanced), "f1": float(f1)}
    if scores.shape[1] == 2 and len(present) == 2:
        margin = (scores[:, 1].double() - scores[:, 0].double()).cpu().numpy()
        numbers["auc"] = float(roc_auc_score(truth, margin))
    return numbers


def average_scores(draws: Iterable[Tensor], count: int, labels: Tensor, uneven: bool) -> dict[str, float]:
    """Mean over `count` draws of class scores (N, K): `top1`, and `score_uneven` where classes are uneven."""
    means: dict[str, float] = {}
    for scores in draws:
        numbers = {"top1": top1_accuracy(scores, labels)} | (score_uneven(scores, labels) if uneven else {})
        for name, number in numbers.items():
            means[name] = means.get(name, 0.0) + number / count
    return means
