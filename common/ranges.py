"""Types of numbers with a range, for signatures: a config or a command line with any other number is refused.

jsonargparse reads signatures. `--help` names the types, values stay plain ints and floats, and NaN and infinity are in
no range. A constructor that is called from Python checks nothing.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jsonargparse.typing import register_type


def define_range(name: str, base: type, words: str, contains: Callable[[float], bool]) -> type:
    """Make a type of numbers, which jsonargparse reads from YAML and from the command line as plain ones.

    Args:
        name: of the type.
        base: int or float; 3 is read as the float 3.0, but 3.0 never as an int.
        words: what the numbers are, for the message.
        contains: whether a finite number is in the range.
    """

    def read_number(value: Any) -> int | float:
        with suppress(ValueError, OverflowError):  # no number, or one that no float can hold
            if isinstance(value, str | int | base) and not isinstance(value, bool):
                number = base(value)
                if math.isfinite(number) and contains(number):
                    return number
        raise ValueError(f"give {words}, not {value}")

    number_type = type(name, (base,), {"__doc__": f"{words[0].upper()}{words[1:]}."})
    # no value has the type, so that each is read, and what is kept and written is a plain number
    register_type(number_type, read_number, read_number, type_check=lambda value, kind: False)
    return number_type


PositiveInt = define_range("PositiveInt", int, "a whole number above 0", lambda n: n > 0)
NonNegativeInt = define_range("NonNegativeInt", int, "a whole number from 0 up", lambda n: n >= 0)
# as of Lightning's seed_everything
Seed = define_range("Seed", int, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
FiniteFloat = define_range("FiniteFloat", float, "a finite number", lambda x: True)
PositiveFloat = define_range("PositiveFloat", float, "a finite number above 0", lambda x: x > 0)
NonNegativeFloat = define_range("NonNegativeFloat", float, "a finite number from 0 up", lambda x: x >= 0)
UnitInterval = define_range("UnitInterval", float, "a number from 0 to 1", lambda x: 0 <= x <= 1)
OpenUnitInterval = define_range(
    "OpenUnitInterval", float, "a number above 0 and below 1", lambda x: 0 < x < 1
)
PositiveShare = define_range("PositiveShare", float, "a number above 0, up to 1", lambda x: 0 < x <= 1)
ShareBelowOne = define_range("ShareBelowOne", float, "a number from 0 to below 1", lambda x: 0 <= x < 1)
FloatFromOne = define_range("FloatFromOne", float, "a finite number from 1 up", lambda x: x >= 1)
UpToHalf = define_range("UpToHalf", float, "a number from 0 to 0.5", lambda x: 0 <= x <= 0.5)
HalfTurn = define_range("HalfTurn", float, "an angle from 0 to 180 degrees", lambda x: 0 <= x <= 180)
