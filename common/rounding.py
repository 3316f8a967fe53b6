"""Telling what varies from a constant that rounding has moved."""

from typing import Any


def is_rounding(deviation: Any, mean: Any, eps: float) -> Any:
    """Whether standard deviations are no more than rounding makes of a constant.

    Divided by such a deviation, a constant becomes noise of the size of a signal.

    Args:
        deviation, mean: of each column; numbers, arrays or tensors.
        eps: distance from 1 to the next number of the type that the columns came in. A computation leaves an error of
            some of these, of which half precision has few: there a step from one number to the next is already signal.
    """
    return deviation <= (10 if eps < 1e-4 else 1) * eps * abs(mean)
