"""Operations on one tensor that move, choose or mix its cells, by their names in torch's aten."""

from typing import Any

from torch import Tensor

from model_summary.axis import UnfollowedError
from model_summary.layout import ORDERS, Factor, Path
from model_summary.windows import WINDOWS

RESHAPED = {"view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze"}
SLICED = {"slice", "select", "unbind", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"}
REDUCTIONS = {
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "argmax",
    "argmin",
    "prod",
    "any",
    "all",
    "logsumexp",
}
REDUCTIONS |= {"var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm", "median", "nansum"}
MIXED_ALONG_DIM = {"_softmax", "_log_softmax", "_safe_softmax", "sort"}
WITHIN_CHANNELS = {
    "glu": "dim",
    "flip": "dims",
    "roll": "dims",
    "channel_shuffle": None,
}  # and where they work
NORMS = {"native_layer_norm", "native_group_norm"}
MASKED = -1e4  # a score below this takes no part in a softmax


def follow_path(path: Path, options: dict[str, Any], shape: tuple[int, ...], start: int) -> Path:
    """Return the path to one output of an operation that reads one tensor.

    Args:
        path: to the tensor.
        options: the operation's arguments by name, and its `name`.
        shape: of the output.
        start: the output's first cell in the tensor, for an operation that cuts it.

    Raises:
        UnfollowedError: the operation is not known, or cannot be followed with these options.
    """
    name, ndim = options["name"], len(path.dims)
    if name in WINDOWS:
        return WINDOWS[name](path, options, shape)
    if name in RESHAPED:
        return path.reshape(shape)
    if name == "permute":
        return path.permute([dim % ndim for dim in options["dims"]])
    if name in ("transpose", "transpose_", "t"):
        order = list(range(ndim))
        a, b = (0, ndim - 1) if name == "t" else (options["dim0"], options["dim1"])
        order[a], order[b] = order[b], order[a]
        return path.permute(order)
    if name in SLICED:
        return follow_slice(path, options, shape, start)
    if name in REDUCTIONS:
        return follow_reduction(path, options, shape)
    if name in MIXED_ALONG_DIM:
        refuse_masks(options["self"] if "softmax" in name else None)
        return path.mix([options["dim"] % ndim])
    if name in NORMS and shape == path.shape:
        count = len(options["normalized_shape"]) if "layer" in name else ndim - 1
        return path.mix(range(ndim - count, ndim))
    if name in ("gather", "index_select"):
        return follow_choice(path, options["dim"] % ndim, shape)
    if name in ("rot90", "flip") and path.is_image and all(path.dims[dim][0].axes for dim in options["dims"]):
        return path._replace(frame=next(ORDERS))  # an image of its own
    if name in WITHIN_CHANNELS:
        return follow_channels(path, options, shape)
    raise UnfollowedError(name)


def follow_channels(path: Path, options: dict[str, Any], shape: tuple[int, ...]) -> Path:
    """Follow an operation that moves or joins cells along some dimensions, where all of these have the same field."""
    dims = options.get(WITHIN_CHANNELS[options["name"]], 1)
    for dim in dims or range(len(shape)) if isinstance(dims, list) else [dims]:
        if any(factor.axes or not factor.even for factor in path.dims[dim]):
            raise UnfollowedError(options["name"])
        path = path.with_dim(dim % len(shape), Factor(shape[dim]))
    return path


def refuse_masks(scores: Tensor | None) -> None:
    """Raise where scores of a softmax are so low that some cells take no part."""
    if scores is not None and scores.numel() and scores.min() < MASKED:
        raise UnfollowedError("attention with a mask")


def follow_slice(path: Path, options: dict[str, Any], shape: tuple[int, ...], start: int) -> Path:
    number = options["dim"] % len(path.dims)
    size = path.shape[number]
    if options["name"] in ("select", "unbind"):
        start = options["index"] % size if "index" in options else start
        path = path.slice(number, start, 1, 1)
        if any(factor.order for factor in path.dims[number]):
            raise UnfollowedError("taking one of several patches")
        path = path.mix([number])
        return path._replace(dims=(*path.dims[:number], *path.dims[number + 1 :]))
    step = options.get("step", 1)
    if options["name"] == "slice":
        start = options["start"] or 0
        start = max(0, start + size if start < 0 else start)
    return path.slice(number, start, step, shape[number])


def follow_reduction(path: Path, options: dict[str, Any], shape: tuple[int, ...]) -> Path:
    dims, ndim = options.get("dim"), len(path.dims)
    if isinstance(dims, int):
        dims = [dims]
    numbers = {dim % ndim for dim in dims} if dims else set(range(ndim))
    path = path.mix(numbers)
    if len(shape) == ndim:
        return path._replace(
            dims=tuple((Factor(1),) if i in numbers else dim for i, dim in enumerate(path.dims))
        )
    return path._replace(dims=tuple(dim for i, dim in enumerate(path.dims) if i not in numbers))


def follow_choice(path: Path, number: int, shape: tuple[int, ...]) -> Path:
    """Return the path to cells that an index chooses along a dimension."""
    same = all(path.shape[i] == shape[i] for i in range(len(shape)) if i != number)
    if not same or any(not factor.even for factor in path.dims[number]):
        raise UnfollowedError("taking cells of joined maps")
    axes = tuple(axis for factor in path.dims[number] for axis in factor.axes)
    return path.with_dim(
        number, Factor(shape[number], axes, order=next(ORDERS) if axes else 0, complete=not axes)
    )
