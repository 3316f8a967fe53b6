"""What the header of an image file says of how to read it: EXIF's orientation, and the bits of a PNG's channel."""

import struct
from typing import BinaryIO

JPEG_START, PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # the tag in EXIF 2.32
FORMATS = {1: "B", 3: "H", 4: "I"}  # of TIFF's whole numbers: byte, short, long


def read_bits(file: BinaryIO) -> int:
    """Read the bits of a channel of a PNG; 8 for any other file."""
    file.seek(0)
    head = file.read(25)
    return head[24] if head.startswith(PNG_START) and len(head) == 25 else 8


def read_orientation(file: BinaryIO) -> int:
    """Read EXIF's orientation of a JPG or PNG, 1 to 8; 1, as stored, where there is none or it cannot be read."""
    file.seek(0)
    start = file.read(8)
    try:
        if start == PNG_START:
            return parse_orientation(find_png_exif(file))
        if start.startswith(JPEG_START):
            file.seek(2)
            return parse_orientation(find_jpeg_exif(file))
    except struct.error:  # damaged
        pass
    return 1


def find_jpeg_exif(file: BinaryIO) -> bytes:
    """Walk over the segments before the pixels; the content of the one that holds EXIF, empty if there is none."""
    while True:
        mark, marker = struct.unpack("BB", file.read(2))
        while marker == 0xFF:  # any number of these may fill up
            (marker,) = struct.unpack("B", file.read(1))
        if mark != 0xFF or marker in (0xDA, 0xD9):  # pixels, or the end
            return b""
        (length,) = struct.unpack(">H", file.read(2))
        content = file.read(length - 2) if marker == 0xE1 else file.seek(length - 2, 1)
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            return content[6:]


def find_png_exif(file: BinaryIO) -> bytes:
    """Walk over the chunks; the content of the one that holds EXIF, empty if there is none."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length).removeprefix(b"Exif\0\0")
        file.seek(length + 4, 1)
    return b""


def parse_orientation(exif: bytes) -> int:
    """Read the orientation from EXIF, which is a TIFF file's first directory; 1 where it has none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
        if tag == ORIENTATION and kind in FORMATS:
            (orientation,) = struct.unpack_from(f"{order}{FORMATS[kind]}", exif, entry + 8)
            return orientation if 1 <= orientation <= 8 else 1
    return 1
