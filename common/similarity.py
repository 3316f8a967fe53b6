"""How similar two representations of the same examples are."""

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the similarity, 0 to 1, of two representations (N, D1) and (N, D2) of the same N examples.

    It is 1 where one is the other rotated, scaled or shifted; ||Y'X||^2 / (||X'X|| ||Y'Y||) of the centered columns.

    Kornblith et al. 2019, section 3, https://arxiv.org/abs/1905.00414
    """
    x, y = (a.astype(np.float64) - a.mean(0, dtype=np.float64) for a in (x, y))
    # the same from N x N matrices, which are smaller for wide representations
    if max(x.shape[1], y.shape[1]) > len(x):
        (x, y) = (a @ a.T for a in (x, y))
        cross = (x * y).sum()
    else:
        cross, x, y = np.square(y.T @ x).sum(), x.T @ x, y.T @ y
    norm = np.linalg.norm(x) * np.linalg.norm(y)
    return float(cross / norm) if norm else 0.0
