"""The cells of a map along one axis of the image, each with the first and the last pixel that reaches it."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

LONGEST_PERIOD = 4096  # cells after which the pattern of a followed map must repeat


class UnfollowedError(Exception):
    """The fields behind an operation cannot be known from its name and options; the message names it."""


class Axis(NamedTuple):
    """The pixels that reach the cells of a map, along one axis.

    Cell i is reached from `first[i]` to `last[i]`; cell i + len(first) by the pixels `shift` further on. The pattern
    goes on past the map's border, and pixels past the image's border count: the size does not depend on where an image
    ends. A cell that no pixel reaches has first > last. With shift 0, all cells are reached from the same pixels.

    Args:
        cells: of the map.
        length: of the image, in pixels.
    """

    first: tuple[float, ...]
    last: tuple[float, ...]
    shift: int
    cells: int
    length: int

    def cell_field(self, cell: int) -> tuple[float, float]:
        """Return the first and the last pixel that reaches a cell, which may lie past the border."""
        periods, phase = divmod(cell, len(self.first))
        return self.first[phase] + periods * self.shift, self.last[phase] + periods * self.shift

    @property
    def is_whole(self) -> bool:
        """Whether every pixel reaches every cell."""
        return self.first == (-math.inf,) and self.last == (math.inf,)

    @property
    def size(self) -> float:
        """The pixels of the largest field of a cell, from the first to the last; infinite for the whole image."""
        count = min(self.cells, len(self.first))
        return max((max(0, self.last[i] - self.first[i] + 1) for i in range(count)), default=0)

    @property
    def jump(self) -> float:
        """Pixels from a cell's field to the next one's; infinite where fields do not move."""
        return self.shift / len(self.first) if self.shift else math.inf

    def read_cells(
        self, cells_of: Callable[[int], Iterable[int]], every: int, move: int, cells: int
    ) -> "Axis":
        """Return the axis of a map whose cell i reads the cells `cells_of(i)` of this one.

        Args:
            every, move: cell i + every reads the cells of cell i, `move` further on.
            cells: of the new map.
        """
        repeats = len(self.first) // math.gcd(move, len(self.first))
        period = every * repeats
        if period > LONGEST_PERIOD:
            raise UnfollowedError("resizing by an odd factor")
        fields = [[self.cell_field(cell) for cell in cells_of(i)] for i in range(period)]
        first = tuple(min((field[0] for field in cell), default=math.inf) for cell in fields)
        last = tuple(max((field[1] for field in cell), default=-math.inf) for cell in fields)
        return Axis(first, last, self.shift * move * repeats // len(self.first), cells, self.length)

    def merge_cells(self) -> "Axis":
        """Return what reaches a cell that reads the whole map; pixels past the image's border do not count."""
        fields = [self.cell_field(cell) for cell in range(self.cells)]
        first = max(0, min((first for first, _ in fields), default=math.inf))
        last = min(self.length - 1, max((last for _, last in fields), default=-math.inf))
        return fixed_axis(first, last, self.length)

    def union(self, other: "Axis") -> "Axis":
        """Return the axis of a map that reads, in each cell, the same cell of two maps."""
        if self == other or self.is_whole:
            return self
        if other.is_whole:
            return other
        if self.shift * len(other.first) != other.shift * len(self.first):
            raise UnfollowedError("maps of different strides that meet")
        period = math.lcm(len(self.first), len(other.first))
        pairs = [(self.cell_field(i), other.cell_field(i)) for i in range(period)]
        first = tuple(min(a[0], b[0]) for a, b in pairs)
        last = tuple(max(a[1], b[1]) for a, b in pairs)
        if not self.shift and period == 1:
            return fixed_axis(first[0], last[0], self.length)
        shift = self.shift * period // len(self.first)
        return Axis(first, last, shift, self.cells, self.length)


def image_axis(length: int) -> Axis:
    """Return the axis of the image itself: each cell is its pixel."""
    return Axis((0,), (0,), 1, length, length)


def fixed_axis(first: float, last: float, length: int) -> Axis:
    """Return the axis of a map all of whose cells are reached by the pixels from `first` to `last`."""
    if first <= 0 and last >= length - 1:
        first, last = -math.inf, math.inf
    return Axis((first,), (last,), 0, 1, length)
