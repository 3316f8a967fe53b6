"""Linear probe: a classifier of frozen features that shows how much of the labels can be read off them.

It is fitted until it converges, so that two probes differ by their features and not by how they were trained.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.rounding import is_rounding


@dataclass
class LinearProbe:
    """A linear classifier of raw features: weight (K, D), bias (K,)."""

    weight: Tensor
    bias: Tensor

    def score_classes(self, features: Tensor) -> Tensor:
        """Features (N, D) -> logits (N, K)."""
        return features.to(self.weight) @ self.weight.T + self.bias


@torch.inference_mode(False)
@torch.no_grad()
def fit_probe(
    features: Tensor, labels: Tensor, num_classes: int, c: float = 1.0, max_iter: int = 1000
) -> LinearProbe:
    """Fit a multinomial logistic regression on standardized features until it converges.

    Minimizes c * sum of cross-entropies + |weight|^2 / 2 as scikit-learn's
    `make_pipeline(StandardScaler(), LogisticRegression(C=c))` does; in float64 where the problem is small, in
    float32 elsewhere. Draws no random numbers.

    Of two classes, scikit-learn fits one output. Two outputs share its weights, and the sum of their squares is half as
    large: their c is half of C. So it is where two of more classes have examples.

    Args:
        features: (N, D), of any float type and from any mode.
        labels: classes (N,), int64 in [0, num_classes).
        c: inverse strength of the penalty on the weights; the bias is free.
        max_iter: of L-BFGS; warns if that is not enough.

    Raises:
        ValueError: no example, a label that is not a class, or features that are not finite.
    """
    if len(features) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"a probe needs at least one example, with labels in [0, {num_classes})")
    if not features.isfinite().all():
        raise ValueError("a probe needs features that are finite numbers")
    if len(labels.unique()) == 2:
        c /= 2
    x = features.to(torch.float64 if features.numel() <= 1_000_000 else torch.float32)
    std, mean = torch.std_mean(x, dim=0, correction=0)
    constant = is_rounding(std, mean, torch.finfo(features.dtype).eps)
    std[constant] = 1
    x = (x - mean) / std
    x[:, constant] = 0
    basis = None
    if len(x) < x.shape[1]:  # the best weights are sums of examples: search among those
        basis, r = torch.linalg.qr(x.T)  # (D, N), (N, N)
        x = r.T
    weight, bias = minimize_cross_entropy(x, labels, num_classes, c, max_iter)
    weight = (weight if basis is None else basis @ weight) / std[:, None]
    return LinearProbe(weight.T.float().contiguous(), (bias - mean @ weight).float())


def minimize_cross_entropy(
    x: Tensor, labels: Tensor, num_classes: int, c: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """Find weights (D, K) and bias (K,) of the classifier for inputs (N, D).

    L-BFGS runs on the mean loss, in coordinates where its Hessian at zero is 1: for one Cholesky factor,
    raw pixels take tens of steps instead of hundreds.
    """
    n, eps = len(x), torch.finfo(x.dtype).eps
    x = torch.cat([x, x.new_ones(n, 1)], dim=1)  # the last weight is the bias
    penalty = x.new_full((x.shape[1], 1), 1 / (c * n))
    penalty[-1] = 0
    hessian = x.T @ x / (n * num_classes)
    hessian.diagonal().add_(penalty.squeeze(1) + eps * hessian.trace())  # eps: stays positive under rounding
    factor = torch.linalg.cholesky(hessian)
    v = x.new_zeros(x.shape[1], num_classes)  # factor.T @ weights
    rows = torch.arange(n, device=x.device)

    def closure() -> Tensor:
        w = torch.linalg.solve_triangular(factor.T, v, upper=True)
        log_p = (x @ w).log_softmax(1)  # (N, K)
        loss = (penalty * w.square()).sum() / 2 - log_p[rows, labels].double().mean()
        residual = log_p.exp_()
        residual[rows, labels] -= 1
        gradient = x.T @ residual / n + penalty * w
        v.grad = torch.linalg.solve_triangular(factor, gradient, upper=False).contiguous()
        return loss

    tolerance = 1e-5 if x.dtype == torch.float32 else 1e-7
    torch.optim.LBFGS(
        [v],
        max_iter=max_iter,
        tolerance_grad=tolerance,
        tolerance_change=tolerance**2 / 100,
        history_size=20,
        line_search_fn="strong_wolfe",
    ).step(closure)
    closure()

    slope = float(v.grad.abs().max())
    if slope > 10 * tolerance:  # rounding may end the search just short of it
        warning = f"the linear probe stopped at a gradient of {slope:.1g}, not {tolerance:.0e}"
        warnings.warn(warning, stacklevel=5)
    w = torch.linalg.solve_triangular(factor.T, v, upper=True)
    return w[:-1], w[-1]


def draw_few_labels(labels: Tensor, num_classes: int, per_class: int, draw: int) -> Tensor:
    """Draw positions of per_class random examples of each class (all that a class has, if fewer), class by class.

    The draw depends on nothing but the arguments, so that every encoder is judged on the same examples.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw)).to(labels.device)
    return torch.cat([order[labels[order] == k][:per_class] for k in range(num_classes)])


def score_with_few_labels(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    num_classes: int,
    per_class: int = 5,
    draws: int = 10,
    c: float = 1.0,
) -> Iterator[Tensor]:
    """Yield the scores (Q, K) of queries (Q, D) by a probe fitted on each of `draws` draws of the features (M, D)."""
    for draw in range(draws):
        rows = draw_few_labels(labels, num_classes, per_class, draw)
        yield fit_probe(features[rows], labels[rows], num_classes, c).score_classes(queries)
