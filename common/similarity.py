"""How similar two representations of the same examples are."""

import numpy as np

from common.rounding import is_rounding


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the similarity, 0 to 1, of two representations (N, D1) and (N, D2) of the same N examples.

    It is 1 where one is the other rotated, scaled or shifted, and 0 where one does not vary:
    ||Y'X||^2 / (||X'X|| ||Y'Y||) of the centered columns.

    Kornblith et al. 2019, section 3, https://arxiv.org/abs/1905.00414
    """
    x, y = (center_columns(a) for a in (x, y))
    # the same from N x N matrices, which are smaller for wide representations
    if max(x.shape[1], y.shape[1]) > len(x):
        (x, y) = (a @ a.T for a in (x, y))
        cross = (x * y).sum()
    else:
        cross, x, y = np.square(y.T @ x).sum(), x.T @ x, y.T @ y
    norm = np.linalg.norm(x) * np.linalg.norm(y)
    return float(cross / norm) if norm else 0.0


def center_columns(x: np.ndarray) -> np.ndarray:
    """Columns (N, D) less their means, float64; 0 where a column varies by rounding alone."""
    eps = np.finfo(x.dtype).eps
    mean = x.mean(0, dtype=np.float64)
    x = x.astype(np.float64) - mean
    return np.where(is_rounding(np.sqrt(np.square(x).mean(0)), mean, eps), 0, x)
