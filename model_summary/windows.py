"""Operations that slide along a map: convolutions, pooling, padding, resizing; by their names in torch's aten.

A rule takes the path to the operation's first tensor, its options and the output's shape, and returns the path to it.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from model_summary.axis import UnfollowedError
from model_summary.layout import Factor, Path

Rule = Callable[[Path, dict[str, Any], tuple[int, ...]], Path]


def repeat_option(value: Sequence[int], count: int) -> list[int]:
    """Return an option for each spatial dimension, of which one number stands for all."""
    return list(value) * count if len(value) == 1 else list(value)


def follow_convolution(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    kernels = options["weight"].shape[2:]
    names = ("stride", "padding", "dilation")
    windows = zip(kernels, *(repeat_option(options[name], len(kernels)) for name in names), strict=True)
    channels = path.dims[1]
    if options["groups"] == 1:
        path = path.mix([1])
    elif any(factor.axes for factor in channels):
        raise UnfollowedError("groups of rows or columns")
    for number, (kernel, stride, padding, dilation) in enumerate(windows, start=2):
        taps = [tap * dilation - padding for tap in range(kernel)]
        if options["transposed"]:

            def read(i: int, taps: list[int] = taps, stride: int = stride) -> list[int]:
                return [(i - tap) // stride for tap in taps if (i - tap) % stride == 0]

            path = path.read_map(number, read, stride, 1, shape[number])
        else:
            path = slide(path, number, taps, stride, shape[number])
    even = options["groups"] == 1 or all(factor.even for factor in channels)
    return path.with_dim(1, Factor(shape[1], even=even))


def slide(path: Path, number: int, taps: Sequence[int], stride: int, cells: int) -> Path:
    """Return the path to a map whose cell i reads the cells i * stride + tap."""
    return path.read_map(number, lambda i: [i * stride + tap for tap in taps], 1, stride, cells)


def follow_pooling(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    spatial = int(options["name"].split("pool")[1][0])
    kernels = repeat_option(options["kernel_size"], spatial)
    strides = repeat_option(options["stride"] or kernels, spatial)
    paddings = repeat_option(options["padding"], spatial)
    dilations = repeat_option(options.get("dilation", [1]), spatial)
    for i in range(spatial):
        number = len(shape) - spatial + i
        taps = [tap * dilations[i] - paddings[i] for tap in range(kernels[i])]
        path = slide(path, number, taps, strides[i], shape[number])
    return path


def follow_adaptive_pooling(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    for number in range(len(shape) - len(options["output_size"]), len(shape)):
        cells, count = path.shape[number], shape[number]
        if count == 1:
            path = path.mix([number])
            continue
        common = math.gcd(cells, count)

        def read(i: int, cells: int = cells, count: int = count) -> range:
            return range(i * cells // count, -((i + 1) * -cells // count))

        path = path.read_map(number, read, count // common, cells // common, count)
    return path


def follow_padding(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    pads = options.get("pad") or options["padding"]
    for i, left in enumerate(pads[::2]):
        number = len(shape) - 1 - i
        path = (
            path if shape[number] == path.shape[number] and not left else pad_dim(path, number, left, shape)
        )
    return path


def pad_dim(path: Path, number: int, left: int, shape: tuple[int, ...]) -> Path:
    if not any(factor.axes or not factor.even for factor in path.dims[number]):
        return path.with_dim(number, Factor(shape[number]))
    return slide(path, number, [-left], 1, shape[number])


def follow_unfold(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    """`F.unfold`: windows (B, C, H, W) -> (B, C * K, L)"""
    names = ("kernel_size", "stride", "padding", "dilation")
    windows = zip(*(repeat_option(options[name], 2) for name in names), strict=True)
    for number, (kernel, stride, padding, dilation) in enumerate(windows, start=2):
        cells = (path.shape[number] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        path = slide(path, number, [tap * dilation - padding for tap in range(kernel)], stride, cells)
    return path._replace(dims=(path.dims[0], (Factor(shape[1], even=False),), (*path.dims[2], *path.dims[3])))


def follow_pixel_shuffle(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    factor = options["upscale_factor"]
    if any(part.axes or not part.even for part in path.dims[-3]):
        raise UnfollowedError("pixel_shuffle of joined maps")
    for number in (len(shape) - 2, len(shape) - 1):
        path = path.read_map(number, lambda i: [i // factor], factor, 1, shape[number])
    return path.with_dim(len(shape) - 3, Factor(shape[-3]))


def follow_pixel_unshuffle(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    factor = options["downscale_factor"]
    for number in (len(shape) - 2, len(shape) - 1):
        path = slide(path, number, range(factor), factor, shape[number])
    return path.with_dim(len(shape) - 3, Factor(shape[-3], even=factor == 1))


def follow_resizing(path: Path, options: dict, shape: tuple[int, ...]) -> Path:
    """`F.interpolate`, where sides and factors agree; cells whose weight is 0 are not read."""
    name, corners = options["name"], options.get("align_corners", False)
    for i, number in enumerate(range(2, len(shape))):
        cells, count = path.shape[number], shape[number]
        factors = (
            options.get("scale_factors")
            or [options.get(f"scales_{axis}") for axis in "dhw"][-len(shape) + 2 :]
        )
        factor = factors[i] if len(factors) > i else options.get("scales")
        if factor is not None and factor * cells != count:
            raise UnfollowedError(f"{name} by a factor that the sides do not have")
        ratio = Fraction(cells, count)
        if corners:
            ratio = Fraction(cells - 1, count - 1) if count > 1 else Fraction(0)
        if not ratio:
            path = path.slice(number, 0, 1, 1)
            continue

        def read(i: int, ratio: Fraction = ratio) -> Sequence[int]:
            if "nearest" in name:
                return [math.floor((i + Fraction("exact" in name, 2)) * ratio)]
            place = i * ratio if corners else (i + Fraction(1, 2)) * ratio - Fraction(1, 2)
            left = math.floor(place)
            if place == left:
                return [left]
            return range(left - 1, left + 3) if "bicubic" in name else range(left, left + 2)

        path = path.read_map(number, read, ratio.denominator, ratio.numerator, count)
    return path


WINDOWS: dict[str, Rule] = {
    "convolution": follow_convolution,
    **{f"avg_pool{n}d": follow_pooling for n in (2, 3)},
    **{f"max_pool{n}d_with_indices": follow_pooling for n in (2, 3)},
    **{f"_adaptive_avg_pool{n}d": follow_adaptive_pooling for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": follow_adaptive_pooling for n in (2, 3)},
    "constant_pad_nd": follow_padding,
    **{f"{kind}_pad{n}d": follow_padding for kind in ("reflection", "replication") for n in (1, 2, 3)},
    "im2col": follow_unfold,
    "pixel_shuffle": follow_pixel_shuffle,
    "pixel_unshuffle": follow_pixel_unshuffle,
    **{
        f"{kind}{n}d": follow_resizing
        for kind in ("upsample_nearest", "_upsample_nearest_exact")
        for n in (1, 2, 3)
    },
    **{
        f"upsample_{kind}": follow_resizing for kind in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")
    },
}
