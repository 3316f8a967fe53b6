"""What an operation does to the paths from the image: it keeps, moves, joins or mixes the cells of tensors."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from model_summary.axis import UnfollowedError
from model_summary.layout import Factor, Path
from model_summary.windows import WINDOWS

CELLWISE = {"clone", "_to_copy", "detach", "alias", "copy_", "lift_fresh", "native_dropout", "_prelu_kernel"}
CELLWISE |= {
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "expand",
}
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
    raise UnfollowedError(name)


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
        if any(factor.loose for factor in path.dims[number]):
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
    return path.with_dim(number, Factor(shape[number], axes, loose=bool(axes), complete=not axes))


def follow_cells(options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]) -> list[Path]:
    """Return the paths to a tensor each of whose cells reads the same cell of all tensors."""
    tensors = [paths for values in tracked.values() for paths in values if paths]
    if options["name"] == "copy_":
        tensors = [paths for paths in tracked["src"] if paths]
    paths = [path.broadcast(shape) for paths in tensors for path in paths]
    if options.get("training") and "batch_norm" in options["name"]:
        paths = [path.mix({0, *range(2, len(shape))}) for path in paths]
    return paths


def follow_joined(options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]) -> list[Path]:
    """Return the paths to tensors concatenated, or stacked, along a dimension."""
    number = options["dim"] % len(shape)
    tensors = [paths for paths in tracked["tensors"] if paths and (len(shape) == 1 or len(paths[0].dims) > 1)]
    even = all(paths == tensors[0] or has_fields_of(paths, tensors[0]) for paths in tensors)
    if not even:
        refuse_unequal_parts([path for paths in tensors for path in paths])
    results = []
    for path in (path for paths in tensors for path in paths):
        if options["name"] == "stack":
            path = path._replace(dims=(*path.dims[:number], (Factor(1),), *path.dims[number:]))
        factors = path.dims[number]
        axes = tuple(axis for factor in factors for axis in factor.axes)
        if axes and not even:
            raise UnfollowedError("joining maps side by side")
        complete = all(factor.complete for factor in factors)
        even_cells = even and all(factor.even for factor in factors)
        results.append(path.with_dim(number, Factor(shape[number], axes, even_cells, bool(axes), complete)))
    return results


def has_fields_of(paths: Sequence[Path], others: Sequence[Path]) -> bool:
    """Whether two tensors have the same fields along the same dimensions, whatever the sizes of the others."""
    return [(path.axes, axes_of_dims(path)) for path in paths] == [
        (path.axes, axes_of_dims(path)) for path in others
    ]


def axes_of_dims(path: Path) -> list[tuple[int, ...]]:
    return [tuple(axis for factor in dim for axis in factor.axes) for dim in path.dims]


def refuse_unequal_parts(paths: Sequence[Path]) -> None:
    """Raise where parts of an image meet of which none holds the others: which part a cell has is then not known."""
    for axes in zip(*(path.axes for path in paths), strict=True):
        union = axes[0]
        for axis in axes[1:]:
            union = union.union(axis)
        if not union.shift and union not in axes:
            raise UnfollowedError("joining parts of an image")


def follow_product(options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]) -> list[Path]:
    """Return the paths to a product of matrices, or of a stack of them, to which a bias may be added."""
    bias, left, right = ([None], *tracked.values()) if options["name"] in ("mm", "bmm") else tracked.values()
    paths = [path.broadcast(shape) for path in bias[0] or []]
    paths += [
        path.mix([len(shape) - 1]).with_dim(len(shape) - 1, Factor(shape[-1])) for path in left[0] or []
    ]
    paths += [
        path.mix([len(shape) - 2]).with_dim(len(shape) - 2, Factor(shape[-2])) for path in right[0] or []
    ]
    return paths


def follow_attention(options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]) -> list[Path]:
    """Return the paths to the output (B, heads, T, E) of `F.scaled_dot_product_attention`."""
    if len(shape) != 4 or any(tracked.get("attn_mask", [None])):
        raise UnfollowedError("attention with a mask from the image")
    refuse_masks(options.get("attn_mask"))
    if options["is_causal"]:
        raise UnfollowedError("attention with a mask")
    paths = [path.mix([3]).with_dim(3, Factor(shape[3])) for path in tracked["query"][0] or []]
    for name in ("key", "value"):
        paths += [
            path.mix([2, 3])._replace(dims=(*path.dims[:2], (Factor(shape[2]),), (Factor(shape[3]),)))
            for path in tracked[name][0] or []
        ]
    return paths


def follow_recurrence(
    options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]
) -> list[Path]:
    """Return the paths to the states (T, B, H) of a recurrent layer: the last has read all steps, others fewer."""
    if len(shape) != 3 or any(paths for name, values in tracked.items() if name != "input" for paths in values):
        raise UnfollowedError("a recurrent layer's first state from the image")
    paths = [path.mix([0, 2]) for path in tracked["input"][0]]
    steps = Factor(shape[0], even=False)
    return [path._replace(dims=((steps,), path.dims[1], (Factor(shape[2]),))) for path in paths]


def follow_embedding(options: dict[str, Any], tracked: dict[str, list], shape: tuple[int, ...]) -> list[Path]:
    """Return the paths to the vectors of a table's rows that the image's codes choose."""
    if tracked["weight"][0]:
        raise UnfollowedError("a table from the image")
    return [path._replace(dims=(*path.dims, (Factor(shape[-1]),))) for path in tracked["indices"][0]]


OF_SEVERAL_TENSORS = {
    **dict.fromkeys(CELLWISE, follow_cells),
    **dict.fromkeys(("cat", "stack"), follow_joined),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), follow_product),
    "_scaled_dot_product_flash_attention_for_cpu": follow_attention,
    "mkldnn_rnn_layer": follow_recurrence,
    "embedding": follow_embedding,
}
