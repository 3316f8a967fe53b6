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
from datamodules.storage.layout import write_header

try:
    import simplejpeg
except ImportError:  # the extra `fast`
    simplejpeg = None

CHUNK, WINDOW = 32, 2048  # images that a thread takes at a time, and that wait to be written at most
OnBadImage = Literal["error", "skip"]


def list_images(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files directly in a folder that have one of the suffixes, in upper or lower case, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)


def pack_images(
    files: dict[str, Path], out: Path, crop: int | None, side: int, on_bad_image: OnBadImage = "error"
) -> None:
    """Write `decode_square` of each file to `out`, a .npy file, unless that has been done for these files.

    Files are known by their names alone. The manifest, a .json beside `out`, says which image each row holds, and which
    images could not be decoded. Where there are some, it is done again, unless they are to be left out.

    Raises:
        MisconfigurationException: images that cannot be decoded, unless `on_bad_image` is "skip".
    """
    if not is_packed(files, out, on_bad_image):
        with exclusive_lock(out.parent):
            if not is_packed(files, out, on_bad_image):  # another process may have been faster
                out.with_suffix(".json").unlink(missing_ok=True)
                manifest = decode_images(files, out, crop, side)
                path = out.with_suffix(".json")
                with readable_disk_errors(path), atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(manifest), encoding="utf-8")
    manifest = read_manifest(out)
    if not manifest["unreadable"]:
        return
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


def is_packed(files: dict[str, Path], out: Path, on_bad_image: OnBadImage) -> bool:
    """Check whether `out` is complete, and made of these files."""
    with readable_disk_errors(out):
        manifest = read_manifest(out)
    if not manifest or (manifest["unreadable"] and on_bad_image == "error"):
        return False
    return sorted([*manifest["ids"], *manifest["unreadable"]]) == sorted(files)


def read_manifest(out: Path) -> dict:
    """Read the manifest of an array: the `ids` of its rows, and why others are `unreadable`; empty if incomplete."""
    path = out.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() and out.is_file() else {}


def read_image_names(images: np.ndarray, rows: np.ndarray) -> list[str] | None:
    """Read the names of the files that rows (n,) of an array were decoded from; None where they came as an array."""
    file = getattr(images, "filename", None)  # of a memory map
    names = read_manifest(Path(file)).get("ids") if file else None
    return [names[row] for row in rows] if names else None


def decode_images(files: dict[str, Path], out: Path, crop: int | None, side: int) -> dict:
    """Decode image files into `out`, uint8 (N, side, side, 3) of those that can be decoded; return the manifest.

    Memory stays flat, since decoded images are written at once.
    """
    ids: list[str] = []
    unreadable: dict[str, str] = {}

    def decode_chunk(names: list[str]) -> tuple[list[str], bytes]:
        squares = {}
        for name in names:
            try:
                squares[name] = decode_square(files[name].read_bytes(), crop, side).tobytes()
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


def decode_square(data: bytes, crop: int | None, side: int) -> np.ndarray:
    """Decode the central `crop` x `crop` pixels of an image, or as many as there are, resized: uint8 (side, side, 3).

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
        image = convert_to_rgb(image)
    top, left = ((length - crop) // 2 / shrink for length in (height, width))
    box = (left, top, left + crop / shrink, top + crop / shrink)
    if crop == side * shrink and top.is_integer() and left.is_integer():
        return np.asarray(image.crop(box))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box))


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert any image; transparent pixels show the color that they have."""
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip to 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # PIL warns of transparent colors without this step
        image = image.convert("RGBA")
    return image.convert("RGB")
