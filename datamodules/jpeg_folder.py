"""A folder of JPGs -> one array on disk: central squares, resized, decoded once by all cores.

Decoding itself shrinks an image by 2, 4 or 8 where the result needs no more pixels, as libjpeg can, for a fraction of
the work; what remains is PIL's antialiased resize. benchmarks/galaxies.py measures how far that is from decoding whole
images and resizing them.
"""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image
from tqdm.auto import tqdm

CHUNK = 32  # images that a thread takes at a time


def pack(folder: Path, out: Path, crop: int, side: int, skip_corrupt: bool = False) -> None:
    """Writes `central_square` of each JPG of a folder to `out`, a .npy file, unless that has been done.

    A .json beside it says which images the rows hold. It is done again where the folder has other JPGs by now, or where
    some could not be decoded. Without the folder, what is there is used.

    Raises:
        MisconfigurationException: JPGs that cannot be decoded, unless `skip_corrupt`.
    """
    if not folder.is_dir() and out.is_file():
        return
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise MisconfigurationException(f"there are no JPGs in {folder.absolute()}")
    about = {"folder": folder.name, "crop": crop, "side": side, "ids": [path.stem for path in paths]}
    said = contents(out)
    if said and said["ids"] == about["ids"] and (skip_corrupt or not said["unreadable"]):
        return
    out.with_suffix(".json").unlink(missing_ok=True)
    unreadable = decode(paths, out, crop, side)
    about["unreadable"] = {path.stem: reason for path, reason in unreadable.items()}
    out.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    if unreadable and not skip_corrupt:
        path, reason = next(iter(unreadable.items()))
        raise MisconfigurationException(
            f"{len(unreadable)} of {len(paths)} images cannot be decoded, the first is {path.absolute()} ({reason}): "
            "get them again, or leave them out by --data.init_args.skip_corrupt true"
        )


def contents(out: Path) -> dict:
    """What `pack` says about a file: `ids` of the rows, and of them `unreadable`; empty where it is not complete."""
    about = out.with_suffix(".json")
    return json.loads(about.read_text(encoding="utf-8")) if about.is_file() and out.is_file() else {}


def decode(paths: list[Path], out: Path, crop: int, side: int) -> dict[Path, str]:
    """JPGs -> `out`, uint8 (N, side, side, 3), in a memory map: memory stays flat. The file appears when complete.

    Returns:
        path -> reason, of those that could not be decoded; their rows are black.
    """
    temporary = out.with_name(f".part-{os.getpid()}")
    images = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(paths), side, side, 3))
    unreadable: dict[Path, str] = {}

    def work(rows: range) -> int:
        for row in rows:
            try:
                images[row] = central_square(paths[row].read_bytes(), crop, side)
            except (OSError, ValueError) as error:
                unreadable[paths[row]] = str(error)
        return len(rows)

    chunks = [range(i, min(i + CHUNK, len(paths))) for i in range(0, len(paths), CHUNK)]
    try:
        with ThreadPoolExecutor() as pool, tqdm(total=len(paths), desc="decoding", unit=" images") as bar:
            for done in pool.map(work, chunks):
                bar.update(done)
        images.flush()
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return dict(sorted(unreadable.items()))


def central_square(data: bytes, crop: int, side: int) -> np.ndarray:
    """The central `crop` x `crop` pixels of a JPG (all that there are, if fewer), resized: uint8 (side, side, 3).

    Raises:
        ValueError: not a whole JPG.
    """
    if not data:
        raise ValueError("the file is empty")
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    crop = min(crop, height, width)
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or crop >= side * s)
    smallest = {"min_height": math.ceil(height / shrink), "min_width": math.ceil(width / shrink)}
    image = simplejpeg.decode_jpeg(data, "RGB", **smallest)
    top, left = ((length - crop) // 2 / shrink for length in (height, width))
    if crop == side * shrink and top.is_integer() and left.is_integer():
        return image[int(top) :, int(left) :][:side, :side]
    box = (left, top, left + crop / shrink, top + crop / shrink)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box))
