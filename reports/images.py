"""Images inside a page: arrays and files as data URIs, and many small ones as one."""

import base64
import io
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
COLUMNS = 40  # of an atlas
LARGE, WIDEST = 200_000, 1600  # bytes of a PNG that is not encoded again; pixels of one that is


def encode_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encode_picture(image: np.ndarray, lossless: bool = True) -> str:
    """uint8 (H, W, C), C 1 or 3 -> WebP."""
    buffer = io.BytesIO()
    color = Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))
    color.save(buffer, "WEBP", lossless=lossless, quality=80, method=4)
    return encode_uri(buffer.getvalue(), "webp")


def encode_atlas(images: np.ndarray) -> str:
    """uint8 (N, h, w, 3) -> one picture, COLUMNS a row."""
    count, h, w, _ = images.shape
    rows = math.ceil(count / COLUMNS)
    sheet = np.zeros((rows * COLUMNS, h, w, 3), np.uint8)
    sheet[:count] = images
    sheet = sheet.reshape(rows, COLUMNS, h, w, 3).swapaxes(1, 2).reshape(rows * h, COLUMNS * w, 3)
    return encode_picture(sheet, lossless=False)


def encode_png(file: Path) -> tuple[str, int, int] | None:
    """A PNG as data URI, with the width and height to draw it at; None where the file is cut off.

    Large ones get smaller: no wider than twice the page's column, and lossy.
    """
    data = file.read_bytes()
    if not data.startswith(PNG) or b"IEND" not in data[-12:]:
        return None
    width, height = struct.unpack(">II", data[16:24])
    if len(data) <= LARGE:
        return encode_uri(data, "png"), width, height
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB")
        small.thumbnail((WIDEST, 4 * WIDEST))
        small.save(buffer, "WEBP", quality=75, method=4)
    return encode_uri(buffer.getvalue(), "webp"), width, height
