"""Image files decoded once, by all cores, into one array on disk: central squares, resized.

Decoding a JPG itself shrinks it by 2, 4 or 8 where the result needs no more pixels, as libjpeg can, for a fraction of
the work; PIL's antialiased resize does the rest. benchmarks/galaxies.py measures how far that is from decoding whole
images and resizing them. simplejpeg, where it is installed, decodes the same pixels faster than PIL does.
"""

import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from common.files import atomic_write
from datamodules.storage.disk import exclusive_lock, readable_disk_errors
from datamodules.storage.image_headers import read_orientation
from datamodules.storage.layout import write_header
from datamodules.storage.pixels import TURNS, Survey, read_rgb, survey_images

try:
    import simplejpeg
except ImportError:  # the extra `fast`
    simplejpeg = None

CHUNK, WINDOW = 32, 2048  # images that a thread takes at a time, and that wait to be written at most
OnBadImage = Literal["error", "skip"]


def pack_images(
    files: dict[str, Path],
    out: Path,
    crop: int | None,
    side: int,
    on_bad_image: OnBadImage = "error",
    bits: int | None = None,
) -> Survey:
    """Write `decode_square` of each file to `out`, a .npy file, unless that has been done for these files.

    Files are known by their names alone. The manifest, a .json beside `out`, says which image each row holds, how
    decoding changed them, and which could not be decoded. Where some could not, it is done again, unless they are to be
    left out.

    Args:
        bits: of the training images of 16 bits, see `survey_images`.

    Raises:
        MisconfigurationException: images that cannot be decoded, unless `on_bad_image` is "skip".
    """
    if not is_packed(files, out, on_bad_image, bits):
        with exclusive_lock(out.parent):
            if not is_packed(files, out, on_bad_image, bits):  # another process may have been faster
                out.with_suffix(".json").unlink(missing_ok=True)
                survey = survey_images(files.values(), bits)
                manifest = decode_images(files, out, crop, side, survey.bits or 16) | survey._asdict()
                path = out.with_suffix(".json")
                with readable_disk_errors(path), atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(manifest), encoding="utf-8")
    manifest = read_manifest(out)
    survey = read_survey(manifest)
    if not manifest["unreadable"]:
        return survey
    name, reason = next(iter(manifest["unreadable"].items()))
    text = (
        f"{len(manifest['unreadable'])} of {len(files)} images cannot be decoded, "
        f"the first is {files[name].absolute()} ({reason})"
    )
    if on_bad_image == "error" or not manifest["ids"]:
        raise MisconfigurationException(
            f"{text}: get them again, or leave them out by --data.init_args.on_bad_image skip"
        )
    rank_zero_info(f"{text}: left out")
    return survey


def is_packed(files: dict[str, Path], out: Path, on_bad_image: OnBadImage, bits: int | None) -> bool:
    """Check whether `out` is complete, made of these files, and as they are decoded today."""
    with readable_disk_errors(out):
        manifest = read_manifest(out)
    if not manifest or (manifest["unreadable"] and on_bad_image == "error"):
        return False
    survey = read_survey(manifest)
    if survey is None or (survey.deep and bits not in (None, survey.bits)):
        return False
    return sorted([*manifest["ids"], *manifest["unreadable"]]) == sorted(files)


def read_manifest(out: Path) -> dict:
    """Read the manifest of an array: the `ids` of its rows, and why others are `unreadable`; empty if incomplete."""
    path = out.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() and out.is_file() else {}


def read_array_manifest(images: np.ndarray) -> dict:
    """Read the manifest of an opened array; empty where its images came as an array."""
    file = getattr(images, "filename", None)  # of a memory map
    return read_manifest(Path(file)) if file else {}


def read_image_names(images: np.ndarray, rows: np.ndarray) -> list[str] | None:
    """Read the names of the files that rows (n,) of an array were decoded from; None where they came as an array."""
    names = read_array_manifest(images).get("ids")
    return [names[row] for row in rows] if names else None


def read_survey(manifest: dict) -> Survey | None:
    """Read how decoding changed the images of a manifest; None in one from before that was noted."""
    return Survey(*(manifest[name] for name in Survey._fields)) if "turned" in manifest else None


def decode_images(files: dict[str, Path], out: Path, crop: int | None, side: int, bits: int = 16) -> dict:
    """Decode image files into `out`, uint8 (N, side, side, 3) of those that can be decoded; return the manifest.

    `bits` are those of images of 16 bits, see `survey_images`.

    Memory stays flat, since decoded images are written at once.
    """
    ids: list[str] = []
    unreadable: dict[str, str] = {}

    def decode_chunk(names: list[str]) -> tuple[list[str], bytes]:
        squares = {}
        for name in names:
            try:
                squares[name] = decode_square(files[name].read_bytes(), crop, side, bits).tobytes()
            except UnidentifiedImageError:
                unreadable[name] = "not an image"
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                unreadable[name] = str(error)
        return list(squares), b"".join(squares.values())

    names = sorted(files)
    chunks = [names[i : i + CHUNK] for i in range(0, len(names), CHUNK)]
    with (
        readable_disk_errors(out),
        atomic_write(out) as temporary,
        open(temporary, "wb") as file,
        ThreadPoolExecutor() as pool,
    ):
        write_header(file, np.uint8, (len(names), side, side, 3))
        with tqdm(total=len(names), desc="decoding", unit=" images") as bar:
            for i in range(0, len(chunks), WINDOW // CHUNK):
                window = chunks[i : i + WINDOW // CHUNK]
                for chunk, (decoded, pixels) in zip(window, pool.map(decode_chunk, window), strict=True):
                    file.write(pixels)
                    ids += decoded
                    bar.update(len(chunk))
        file.seek(0)
        write_header(file, np.uint8, (len(ids), side, side, 3))
    return {"ids": ids, "unreadable": dict(sorted(unreadable.items()))}


def decode_square(data: bytes, crop: int | None, side: int, bits: int = 16) -> np.ndarray:
    """Decode the central `crop` x `crop` pixels of an image, or as many as there are: uint8 (side, side, 3).

    They are resized, and turned as EXIF says. An image of 16 bits is scaled from 0 ... 2^bits - 1.

    Raises:
        OSError, ValueError: not a complete image.
    """
    if not data:
        raise ValueError("the file is empty")
    image = Image.open(io.BytesIO(data))  # reads the header alone
    width, height = image.size
    crop = min(crop or width, width, height)
    is_jpeg = image.format == "JPEG"
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or (is_jpeg and crop >= side * s))
    if simplejpeg and is_jpeg and image.mode != "CMYK":
        smallest = {"min_height": math.ceil(height / shrink), "min_width": math.ceil(width / shrink)}
        image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", **smallest))
    else:
        image.draft("RGB", (width // shrink, height // shrink))
        image = read_rgb(image, data, bits)
    turn, mirrors_x, mirrors_y = TURNS.get(read_orientation(io.BytesIO(data)), (None, False, False))
    # of an odd rest, the upper left of the upright image is the smaller half
    left, top = (width - crop + mirrors_x) // 2 / shrink, (height - crop + mirrors_y) // 2 / shrink
    box = (left, top, left + crop / shrink, top + crop / shrink)
    if crop == side * shrink and top.is_integer() and left.is_integer():
        image = image.crop(box)
    else:
        image = image.resize((side, side), Image.Resampling.BILINEAR, box)
    return np.asarray(image if turn is None else image.transpose(turn))
