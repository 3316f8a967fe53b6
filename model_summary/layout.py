"""Which dimensions of a tensor lie along which axes of the image, and what views of a tensor do to them."""

import math
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import NamedTuple

from model_summary.axis import Axis, UnfollowedError, image_axis

ORDERS = count(1)


class Factor(NamedTuple):
    """A dimension of a tensor, or one of several that were flattened into it.

    Args:
        size: of the dimension.
        axes: of the image that its cells lie along; two where rows and columns have lost their grid.
        even: all its cells have the same field (channels: false where maps of different fields were concatenated).
        order: 0 where cells lie as on the map; else a number, of its own for each choice or rearrangement of cells,
            each of which still has the field of a cell of the map.
        complete: all cells of the map are there.
    """

    size: int
    axes: tuple[int, ...] = ()
    even: bool = True
    order: int = 0
    complete: bool = True


class Path(NamedTuple):
    """A way from the image to a tensor.

    Args:
        axes: of the image, as the tensor's cells lie along them.
        dims: for each of the tensor's dimensions its factors.
        frame: 0 for the image's pixels where they are; a number of its own for each turned or mirrored image.
    """

    axes: tuple[Axis, ...]
    dims: tuple[tuple[Factor, ...], ...]
    frame: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(factor.size for factor in dim) for dim in self.dims)

    def with_dim(self, number: int, *factors: Factor) -> "Path":
        """Return the path with other factors in one dimension."""
        return self._replace(dims=(*self.dims[:number], factors, *self.dims[number + 1 :]))

    def mix(self, numbers: Collection[int]) -> "Path":
        """Return the path to a tensor of this shape whose every cell reads all along some dimensions."""
        axes = list(self.axes)
        for factor in (factor for number in numbers for factor in self.dims[number]):
            if self.frame and not factor.even:
                raise UnfollowedError("joining turned images")
            for axis in factor.axes:
                if not factor.complete and not axes[axis].is_whole:
                    raise UnfollowedError("mixing a part of the cells of a map")
                axes[axis] = axes[axis].merge_cells()
        dims = list(self.dims)
        for number in numbers:
            dims[number] = (Factor(self.shape[number]),)
        return self._replace(axes=tuple(axes), dims=tuple(dims)).settle()

    def settle(self) -> "Path":
        """Return the path without the axes of dimensions along which the field is everywhere the whole image."""

        def settle_factor(factor: Factor) -> Factor:
            axes = tuple(axis for axis in factor.axes if not self.axes[axis].is_whole)
            return factor._replace(axes=axes) if axes else Factor(factor.size, even=factor.even)

        whole = all(axis.is_whole for axis in self.axes)
        dims = tuple(tuple(map(settle_factor, dim)) for dim in self.dims)
        if whole:
            dims = tuple(
                (Factor(math.prod(f.size for f in dim), even=all(f.even for f in dim)),) for dim in dims
            )
        return self._replace(dims=dims, frame=0 if whole else self.frame)

    @property
    def is_image(self) -> bool:
        """Whether the cells are the image's pixels, each of them its own."""
        factors = [factor for dim in self.dims for factor in dim if factor.axes]
        plain = all(len(factor.axes) == 1 and not factor.order for factor in factors)
        return plain and all(axis == image_axis(axis.length) for axis in self.axes)

    @property
    def evened(self) -> tuple[tuple[Factor, ...], ...]:
        """The dimensions, as if all cells of channels had the same field."""
        return tuple(tuple(factor._replace(even=True) for factor in dim) for dim in self.dims)

    def reshape(self, shape: Sequence[int]) -> "Path":
        """Return the path to a view of another shape, of the same cells in the same order."""
        if tuple(shape) == self.shape:
            return self
        single = [i for i, dim in enumerate(self.dims) if any(f.axes and f.size == 1 for f in dim)]
        if single:  # a map of one cell, which could lie along any dimension of size 1
            return self.mix(single).reshape(shape)
        factors = [factor for dim in self.dims for factor in dim if factor.size > 1][::-1]
        dims = []
        for size in shape:
            dim: list[Factor] = []
            while math.prod(f.size for f in dim) < size:
                missing = size // math.prod(f.size for f in dim)
                factor = factors.pop()
                if missing % factor.size:
                    if factor.axes or not factor.even or factor.size % missing:
                        raise UnfollowedError("reshaping across rows, columns or parts")
                    factors.append(factor._replace(size=factor.size // missing))
                    factor = factor._replace(size=missing)
                dim.append(factor)
            dims.append(dim or [Factor(1)])
        return self._replace(dims=tuple(map(tuple, dims)))

    def permute(self, order: Sequence[int]) -> "Path":
        return self._replace(dims=tuple(self.dims[number] for number in order))

    def broadcast(self, shape: Sequence[int]) -> "Path":
        """Return the path to a tensor of a larger shape that repeats this one."""
        path = self._replace(dims=((Factor(1),),) * (len(shape) - len(self.dims)) + self.dims)
        grown = [i for i, size in enumerate(shape) if path.shape[i] != size]
        path = path.mix(grown)
        for i in grown:
            path = path.with_dim(i, Factor(shape[i]))
        return path

    def slice(self, number: int, start: int, step: int, count: int) -> "Path":
        """Return the path to `count` cells of a dimension, from `start` in steps."""
        dim = self.dims[number]
        if (start, step, count) == (0, 1, self.shape[number]):
            return self
        if any(not factor.even for factor in dim):
            raise UnfollowedError("taking a part of joined maps")
        factor, *others = dim
        if not others and len(factor.axes) == 1 and not factor.order:
            return self.read_map(number, lambda i: [start + i * step], 1, step, count)
        if not any(factor.axes for factor in dim):
            return self.with_dim(number, Factor(count))
        axes = tuple(axis for factor in dim for axis in factor.axes)
        return self.with_dim(number, Factor(count, axes, order=next(ORDERS), complete=False))

    def read_map(
        self, number: int, cells_of: Callable[[int], Sequence[int]], every: int, move: int, cells: int
    ) -> "Path":
        """Return the path to a map whose cell i along a dimension reads the cells `cells_of(i)`: `Axis.read_cells`."""
        factor, *others = self.dims[number]
        if not factor.axes and not others:
            if not factor.even:
                raise UnfollowedError("a window along joined maps")
            return self.with_dim(number, Factor(cells))
        if others or factor.order or len(factor.axes) > 1:
            raise UnfollowedError("a window along flattened rows and columns")
        (axis,) = factor.axes
        axes = list(self.axes)
        axes[axis] = axes[axis].read_cells(cells_of, every, move, cells)
        return self._replace(axes=tuple(axes)).with_dim(number, factor._replace(size=cells))


def join_paths(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths to a tensor, of which those along the same dimensions are one."""
    joined: list[Path] = []
    for path in paths:
        if all(axis.is_whole for axis in path.axes):
            return (path,)
        same = next(
            (other for other in joined if (other.evened, other.frame) == (path.evened, path.frame)), None
        )
        if same is None:
            joined.append(path)
        else:
            joined.remove(same)
            axes = tuple(a.union(b) for a, b in zip(same.axes, path.axes, strict=True))
            dims = same.dims if same.dims != same.evened else path.dims
            joined.append(same._replace(axes=axes, dims=dims).settle())
            if all(axis.is_whole for axis in axes):
                return (joined[-1],)
    return tuple(joined)
