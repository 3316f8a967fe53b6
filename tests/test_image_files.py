"""Image files, decoded once into one array; and what can go wrong meanwhile."""

import errno
import io
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image

from common.files import atomic_write
from datamodules.storage import image_files
from datamodules.storage.disk import readable_disk_errors
from datamodules.storage.image_files import decode_square, pack_images, read_manifest
from datamodules.storage.image_listing import JPG, FileListing
from datamodules.storage.layout import write_arrays, write_header
from tests.errors import refused_in_one_line

ROOT = Path(__file__).parent.parent

# --- JPGs


def random_picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colors, and some detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.uint8(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255)))


def encode_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def decode_by_pil(data: bytes, crop: int, side: int) -> np.ndarray:
    """The whole image decoded, its center cropped, resized with antialiasing."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    crop = min(crop, *image.size)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    box = (left, top, left + crop, top + crop)
    return np.asarray(image.crop(box).resize((side, side), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.parametrize("height, width, crop, side, mean, most", [
    (64, 64, 64, 64, 0.1, 2),  # nothing to resize
    (65, 83, 41, 41, 0.1, 2),
    (100, 100, 80, 50, 0.1, 3),  # too large a side to shrink while decoding
    (48, 48, 256, 64, 0.1, 2),  # smaller than asked for: enlarged
    (424, 424, 256, 64, 2, 25),  # 4 times smaller, exactly
    (424, 424, 256, 60, 2, 25),  # 4 times, and a little more
    (423, 311, 255, 64, 2, 25),
    (424, 424, 424, 53, 3, 25),  # 8 times, exactly
])  # fmt: skip
def test_the_central_square_is_near_pils(height, width, crop, side, mean, most):
    data = encode_jpeg(random_picture(height, width))
    ours, theirs = decode_square(data, crop, side), decode_by_pil(data, crop, side)
    assert ours.dtype == np.uint8 and ours.shape == (side, side, 3)
    difference = np.abs(ours - theirs)
    assert difference.mean() < mean and difference.max() <= most


def encode_image(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_a_png_of_any_kind_is_read_as_rgb(mode):
    image = random_picture(40, 60).convert(mode)
    square = decode_square(encode_image(image), None, 40)
    assert square.shape == (40, 40, 3) and square.dtype == np.uint8
    assert np.array_equal(square, np.asarray(image.convert("RGB"))[:, 10:50])


def test_a_png_of_16_bits_keeps_its_upper_ones():
    gray = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    square = decode_square(encode_image(Image.fromarray(gray)), None, 64)
    assert np.array_equal(square, np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, 2))


def test_transparent_colors_of_a_palette_pass_without_a_warning():
    image = random_picture(32, 32).convert("P")
    data = encode_image(image, transparency=bytes(range(256)))
    assert np.array_equal(decode_square(data, None, 32), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpg_without_rgb_is_read_as_rgb(mode):
    square = decode_square(encode_jpeg(random_picture(64, 64).convert(mode)), 64, 32)
    assert square.shape == (32, 32, 3) and (mode != "L" or (square == square[..., :1]).all())
    assert (
        np.abs(square - decode_by_pil(encode_jpeg(random_picture(64, 64).convert(mode)), 64, 32)).mean() < 3
    )


@pytest.mark.parametrize("height, width, crop, side", [
    (64, 64, 64, 64), (65, 83, 41, 41), (424, 424, 256, 64), (423, 311, 255, 64), (424, 424, None, 53), (9, 40, None, 1)
])  # fmt: skip
def test_without_simplejpeg_the_pixels_are_the_same(height, width, crop, side, monkeypatch):
    pytest.importorskip("simplejpeg")
    for mode in ("RGB", "L"):
        data = encode_jpeg(random_picture(height, width).convert(mode))
        with_it = decode_square(data, crop, side)
        with monkeypatch.context() as patch:
            patch.setattr(image_files, "simplejpeg", None)
            assert np.array_equal(decode_square(data, crop, side), with_it)


# --- a folder


@pytest.fixture
def folder(tmp_path):
    """Seven JPGs of 32 x 32, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(7):
        suffix = ".JPEG" if k == 3 else ".jpg"
        (folder / f"{k}{suffix}").write_bytes(encode_jpeg(random_picture(32, 32, seed=k)))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def files_by_stem(folder):
    return {path.stem: path for path in FileListing(folder, JPG).list_images(folder)}


def test_a_folder_is_decoded_once(folder, tmp_path, monkeypatch):
    out = tmp_path / "packed" / "a.npy"
    pack_images(files_by_stem(folder), out, 32, 16)
    images = np.load(out)
    assert images.shape == (7, 16, 16, 3) and images.dtype == np.uint8
    survey = {"turned": 0, "deep": 0, "bits": None, "clipped": 0}
    assert read_manifest(out) == {"ids": list("0123456"), "unreadable": {}} | survey
    for k in range(7):
        path = next(folder.glob(f"{k}.*"))
        assert np.array_equal(images[k], decode_square(path.read_bytes(), 32, 16))
    assert sorted(path.name for path in out.parent.iterdir()) == [".lock", "a.json", "a.npy"]
    monkeypatch.setattr(image_files, "decode_images", lambda *args: pytest.fail("it decodes again"))
    pack_images(files_by_stem(folder), out, 32, 16)


def test_more_images_than_wait_to_be_written_keep_their_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "CHUNK", 2)
    monkeypatch.setattr(image_files, "WINDOW", 4)
    pack_images(files_by_stem(folder), tmp_path / "a.npy", None, 16)
    for k, image in enumerate(np.load(tmp_path / "a.npy")):
        assert np.array_equal(image, decode_square(next(folder.glob(f"{k}.*")).read_bytes(), None, 16))


def test_a_folder_that_has_changed_is_decoded_again(folder, tmp_path):
    out = tmp_path / "a.npy"
    pack_images(files_by_stem(folder), out, 32, 16)
    (folder / "7.jpg").write_bytes(encode_jpeg(random_picture(32, 32, seed=7)))
    pack_images(files_by_stem(folder), out, 32, 16)
    assert read_manifest(out)["ids"] == list("01234567") and len(np.load(out)) == 8


@pytest.mark.parametrize("decoder", ["simplejpeg", "PIL"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "png"])
def test_a_corrupt_image_is_named_and_only_left_out_when_asked_to(
    damage, decoder, folder, tmp_path, monkeypatch, caplog, capsys
):
    if decoder == "PIL":
        monkeypatch.setattr(image_files, "simplejpeg", None)
    path, out = folder / "4.jpg", tmp_path / "a.npy"
    content, png = path.read_bytes(), encode_image(random_picture(32, 32))[:-100]
    path.write_bytes({"truncated": content[:-300], "empty": b"", "text": b"no picture", "png": png}[damage])
    for _ in range(2):
        with pytest.raises(MisconfigurationException) as error:
            pack_images(files_by_stem(folder), out, 32, 16)
        assert f"1 of 7 images cannot be decoded, the first is {path} (" in str(error.value)
        assert "\n" not in str(error.value) and "on_bad_image skip" in str(error.value)
    with caplog.at_level("INFO"):
        pack_images(files_by_stem(folder), out, 32, 16, on_bad_image="skip")
    assert f"1 of 7 images cannot be decoded, the first is {path} (" in caplog.text + capsys.readouterr().err
    assert list(read_manifest(out)["unreadable"]) == ["4"] and read_manifest(out)["ids"] == list("012356")
    images = np.load(out)
    assert images.shape == (6, 16, 16, 3)
    assert np.array_equal(images[4], decode_square((folder / "5.jpg").read_bytes(), 32, 16))
    path.write_bytes(content)
    pack_images(files_by_stem(folder), out, 32, 16)  # got again: nothing to leave out
    assert read_manifest(out)["unreadable"] == {} and len(np.load(out)) == 7


def test_where_no_image_can_be_decoded_there_is_nothing_to_leave_out(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(MisconfigurationException, match="1 of 1 images cannot be decoded"):
        pack_images({"a": tmp_path / "a.jpg"}, tmp_path / "a.npy", 32, 16, on_bad_image="skip")


def test_a_png_named_jpg_is_decoded(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode_image(random_picture(32, 32)))
    pack_images({"a": tmp_path / "a.jpg"}, tmp_path / "a.npy", None, 32)
    assert np.array_equal(np.load(tmp_path / "a.npy")[0], np.asarray(random_picture(32, 32)))


# --- accidents

PACK = """
import sys, time
from pathlib import Path
from datamodules.storage import image_files, image_listing
original = image_files.decode_square
def slow(*args):
    time.sleep(float(sys.argv[3]))
    return original(*args)
image_files.decode_square = slow
image_files.CHUNK = 1
folder = Path(sys.argv[1])
files = {path.stem: path for path in image_listing.FileListing(folder, image_listing.JPG).list_images(folder)}
image_files.pack_images(files, Path(sys.argv[2]), None, 16)
"""


def start_packing(folder, out, seconds_an_image: float) -> subprocess.Popen:
    words = [sys.executable, "-c", PACK, str(folder), str(out), str(seconds_an_image)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_files_of_a_killed_process_are_never_trusted(folder, tmp_path):
    out = tmp_path / "packed" / "a.npy"
    process = start_packing(folder, out, seconds_an_image=60)
    while not list(out.parent.glob(".part-*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert sorted(path.name[:6] for path in out.parent.iterdir()) == [".lock", ".part-"]
    pack_images(files_by_stem(folder), out, None, 16)
    assert len(np.load(out)) == 7
    assert sorted(path.name for path in out.parent.iterdir()) == [".lock", "a.json", "a.npy"]


def test_two_processes_at_once_decode_once(folder, tmp_path):
    out = tmp_path / "packed" / "a.npy"
    both = [start_packing(folder, out, seconds_an_image=0.05) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("decoding" in text for text in errors) == 1
    for k, image in enumerate(np.load(out)):
        assert np.array_equal(image, decode_square(next(folder.glob(f"{k}.*")).read_bytes(), None, 16))


@contextmanager
def small_disk():
    """Files can't grow beyond 1,000 bytes: not one that pytest's output goes to either, so not for a whole test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line_error(work) -> str:
    with refused_in_one_line() as error:
        work()
    assert "data_dir" in str(error.value)
    return str(error.value)


def test_a_full_disk_is_told_and_no_part_is_left(folder, tmp_path):
    out, images = tmp_path / "packed" / "a.npy", np.zeros((10, 16, 16, 3), np.uint8)
    with small_disk():
        text = one_line_error(lambda: pack_images(files_by_stem(folder), out, 32, 16))
    assert f"{out}: " in text and os.strerror(errno.EFBIG) in text
    with small_disk():
        text = one_line_error(lambda: write_arrays(out.parent, {"train_images": images}, ["a"]))
    assert str(out.parent / "train_images.npy") in text
    assert sorted(path.name for path in out.parent.iterdir()) == [".lock", "classes.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_refused_write_names_the_file_and_keeps_the_old_one(number, tmp_path):
    path = tmp_path / "a.npy"
    path.write_text("before")

    def refused():
        with readable_disk_errors(path), atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    assert f"{path}: {os.strerror(number)}; " in one_line_error(refused)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_told(folder, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "packed" / "a.npy"
    assert str(out.parent) in one_line_error(lambda: pack_images(files_by_stem(folder), out, 32, 16))
    images = np.zeros((2, 4, 4, 3), np.uint8)
    text = one_line_error(lambda: write_arrays(out.parent, {"train_images": images}, ["a"]))
    assert str(out.parent) in text


def test_the_header_of_an_array_is_as_long_for_any_rows():
    lengths = set()
    for rows in (1, 61_578, 10**12):
        file = io.BytesIO()
        write_header(file, np.uint8, (rows, 64, 64, 3))
        lengths.add(file.tell())
    assert len(lengths) == 1
