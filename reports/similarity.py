"""How similar two representations of the same examples are."""

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """(N, D1), (N, D2) -> 0 to 1; 1 where one is the other turned, scaled or shifted.

    Kornblith et al. 2019, section 3, https://arxiv.org/abs/1905.00414
    """
    x, y = (a.astype(np.float64) - a.mean(0, dtype=np.float64) for a in (x, y))
    norm = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.square(y.T @ x).sum() / norm) if norm else 0.0
