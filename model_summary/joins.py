"""Operations on several tensors, which add, join or multiply them, by their names in torch's aten.

A rule takes an operation's options, for each option that holds tensors a list of the paths to each of them, None for a
tensor that the image does not reach, and the output's shape. It returns the paths to the output.
"""

from collections.abc import Sequence
from typing import Any

from model_summary.axis import UnfollowedError
from model_summary.layout import ORDERS, Factor, Path
from model_summary.operations import refuse_masks

# where each cell reads the same cell alone, beside what torch itself marks so
CELLWISE = {
    "clone",
    "_to_copy",
    "detach",
    "alias",
    "copy_",
    "lift_fresh",
    "expand",
    "native_dropout",
    "_prelu_kernel",
}
CELLWISE |= {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"}
CELLWISE |= {"hardswish", "hardswish_", "mish_", "threshold_", "log_sigmoid_forward"}
CELLWISE |= {"rrelu_with_noise", "rrelu_with_noise_"}


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
    if not tensors:  # of weights, or of nothing that depends on an image
        return []
    even = all(paths == tensors[0] or has_fields_of(paths, tensors[0]) for paths in tensors)
    if not even:
        refuse_unequal_parts([path for paths in tensors for path in paths])
    frames = {path.frame for paths in tensors for path in paths}
    frame = next(ORDERS) if len(frames) > 1 else min(frames)
    if len(frames) > 1:
        even = False
        if number or options["name"] == "stack":  # along the batch, each example is still one image
            raise UnfollowedError("joining turned images")
    results, order = [], next(ORDERS)
    for path in (path for paths in tensors for path in paths):
        if options["name"] == "stack":
            path = path._replace(dims=(*path.dims[:number], (Factor(1),), *path.dims[number:]))
        factors = path.dims[number]
        axes = tuple(axis for factor in factors for axis in factor.axes)
        if axes and not even:
            raise UnfollowedError("joining maps side by side")
        complete = all(factor.complete for factor in factors)
        even_cells = even and all(factor.even for factor in factors)
        factor = Factor(shape[number], axes, even_cells, order if axes else 0, complete)
        results.append(path.with_dim(number, factor)._replace(frame=frame))
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
    if len(shape) != 3 or any(
        paths for name, values in tracked.items() if name != "input" for paths in values
    ):
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
