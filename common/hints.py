"""Hints for a misspelled name: the names that are nearest to it."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_names(name: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most `count` of the names that resemble `name`, the nearest first.

    Args:
        cutoff: similarity from which a name counts, 0 (any name) to 1 (the same name).
    """
    return get_close_matches(name, list(names), n=count, cutoff=cutoff)


def nearest_hint(name: str, names: Iterable[str], kind: str = "one") -> str:
    """The end of an error message, `; the nearest KIND is 'NAME'`; empty where no name resembles `name`."""
    return "".join(f"; the nearest {kind} is {near!r}" for near in nearest_names(name, names))
