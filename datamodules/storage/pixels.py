"""Pixels of image files as 8-bit RGB, turned as EXIF says; and how many of some files that changes.

16-bit files often hold 10, 12 or 14 bits. One scale is for all images of a data set: from 0 to the largest number of as
many bits as the brightest pixel has.
"""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.storage.image_headers import read_bits, read_orientation

# EXIF's orientation -> what makes the stored image upright; which of its axes that mirrors, x and y
TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, False),
}


class Survey(NamedTuple):
    """How decoding changes some images.

    Attributes:
        turned: how many their EXIF orientation turns or mirrors.
        deep: how many have 16 bits a channel.
        bits: those are scaled from 0 ... 2^bits - 1; None where there are none.
        clipped: how many of those are brighter than that.
    """

    turned: int
    deep: int
    bits: int | None
    clipped: int


def survey_images(paths: Iterable[Path], bits: int | None = None) -> Survey:
    """Read all headers, and the pixels of images of 16 bits.

    Args:
        bits: of the training images; as many as the brightest pixel here has if None.
    """
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(read_header, paths))
        deep = [path for path, _, depth in headers if depth > 8]
        brightest = list(pool.map(find_brightest, deep))
    if deep and bits is None:
        bits = max(8, max(brightest).bit_length())
    turned = sum(orientation in TURNS for _, orientation, _ in headers)
    clipped = sum(value >> bits > 0 for value in brightest)
    return Survey(turned, len(deep), bits if deep else None, clipped)


def read_header(path: Path) -> tuple[Path, int, int]:
    """Return a file, its orientation and its bits; one that cannot be opened is told when it is decoded."""
    try:
        with open(path, "rb") as file:
            return path, read_orientation(file), read_bits(file)
    except OSError:
        return path, 1, 8


def find_brightest(path: Path) -> int:
    """Find the largest number in a PNG of 16 bits; 0 where it cannot be decoded."""
    try:
        return int(decode_deep_png(path.read_bytes()).max())
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0


def decode_deep_png(data: bytes) -> np.ndarray:
    """Decode a PNG of 16 bits a channel, uint16 (H, W) or (H, W, C): gray, RGB or RGBA.

    Of those with colors PIL keeps the upper bytes; its reader for the other order of bytes yields the lower ones.
    """
    upper, lower = (Image.open(io.BytesIO(data)) for _ in range(2))
    if upper.mode.startswith("I"):
        return np.asarray(upper).astype(np.uint16)
    *place, layout = lower.tile[0]
    if layout not in ("RGB;16B", "RGBA;16B"):
        raise ValueError(f"a PNG of 16 bits as {layout}: store it as gray, RGB or RGBA")
    lower.tile = [(*place, f"{layout[:-1]}L")]
    return np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)


def scale_to_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Scale 0 ... 2^bits - 1 to 0 ... 255, uint8; what is brighter is 255."""
    return np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)


def read_rgb(image: Image.Image, data: bytes, bits: int) -> Image.Image:
    """Read an opened image and its file as RGB; transparent pixels show the color that they have."""
    if read_bits(io.BytesIO(data)) > 8:
        image = Image.fromarray(scale_to_8_bits(decode_deep_png(data), bits))
    elif image.mode.startswith("I"):  # 16 bits in another format, which PIL would clip to 8
        image = Image.fromarray(scale_to_8_bits(np.asarray(image), bits))
    if image.mode == "P":  # PIL warns of transparent colors without this step
        image = image.convert("RGBA")
    return image.convert("RGB")


def describe_surveys(count: int, surveys: list[Survey]) -> list[str]:
    """Say how decoding changed some of `count` images; nothing where it changed none."""
    turned, deep, clipped = (
        sum(getattr(survey, name) for survey in surveys) for name in ("turned", "deep", "clipped")
    )
    notes = []
    if turned:
        notes.append(f"{turned:,} of {count:,} images turned by their EXIF orientation")
    if deep:
        ranges = " and ".join(sorted({f"0-{2**survey.bits - 1}" for survey in surveys if survey.deep}))
        cut = f" ({clipped:,} of them have brighter pixels, cut off there)" if clipped else ""
        notes.append(f"{deep:,} 16-bit images scaled from {ranges}{cut}")
    return notes
