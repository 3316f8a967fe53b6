"""Image files as a person sees them: upright, of their own brightness, not stretched; and which are read at all."""

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from datamodules.galaxy_zoo import GalaxyZoo
from datamodules.image_folder import ImageFolder
from datamodules.storage import image_files
from datamodules.storage.image_files import decode_square
from datamodules.storage.image_headers import read_orientation
from tests.data_modules import CPU, set_up_data, setup_error
from tests.deep_png import encode_deep_png
from tests.folders import write_folders
from tests.test_image_files import encode_image, random_picture

ORIENTATIONS = range(1, 9)


@pytest.fixture
def info_lines(caplog, capsys):
    """What was said so far, in a log or on stderr; asking forgets it."""
    caplog.set_level("INFO")

    def read() -> str:
        text = "\n".join(record.getMessage() for record in caplog.records)
        caplog.clear()
        return f"{text}\n{capsys.readouterr().err}"

    return read


# --- orientation


def encode_turned(image: Image.Image, orientation: int, kind: str = "JPEG", **exif_tags) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "A camera"  # a tag before the orientation
    exif[0x0112] = orientation
    return encode_image(image, kind, exif=exif, **({"quality": 92} if kind == "JPEG" else {}))


@pytest.mark.parametrize("decoder", ["simplejpeg", "PIL"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("height, width, crop, side", [
    (65, 82, 41, 41), (64, 83, 40, 40), (130, 191, 120, 30), (424, 424, 256, 64), (301, 200, None, 48)
])  # fmt: skip
def test_images_are_upright_as_pil_turns_them(height, width, crop, side, kind, decoder, monkeypatch):
    if decoder == "PIL":
        monkeypatch.setattr(image_files, "simplejpeg", None)
    for orientation in ORIENTATIONS:
        data = encode_turned(random_picture(height, width), orientation, kind)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        kept = crop or min(upright.size)
        left, top = ((length - kept) // 2 for length in upright.size)
        box = (left, top, left + kept, top + kept)
        whole = np.asarray(upright.crop(box).resize((side, side), Image.Resampling.BILINEAR), np.float32)
        difference = np.abs(decode_square(data, crop, side) - whole)
        shrunk = kind == "JPEG" and kept >= 2 * side  # libjpeg's own resampling is another
        assert difference.mean() < (3 if shrunk else 0.6) and difference.max() <= (25 if shrunk else 5)


@pytest.mark.parametrize("order", ["little", "big"])
def test_an_orientation_is_read_in_both_byte_orders(order):
    for orientation in ORIENTATIONS:
        exif = Image.Exif()
        exif.endian = "<" if order == "little" else ">"
        exif[0x0112] = orientation
        data = encode_image(random_picture(8, 8), "JPEG", exif=exif, icc_profile=b"p" * 70_000, comment=b"c")
        assert read_orientation(io.BytesIO(data)) == orientation
        filled = data[:2] + b"\xff\xff" + data[2:]  # bytes that fill up before a marker
        assert read_orientation(io.BytesIO(filled)) == orientation


def test_a_damaged_or_foreign_header_turns_nothing():
    data = encode_turned(random_picture(16, 16), 6)
    for end in range(0, 200, 3):
        assert read_orientation(io.BytesIO(data[:end])) in (1, 6)
    start = data.index(b"Exif\0\0") + 6
    for place in range(start, start + 40):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        assert read_orientation(io.BytesIO(bytes(damaged))) in ORIENTATIONS
    assert read_orientation(io.BytesIO(encode_turned(random_picture(16, 16), 9))) == 1
    assert read_orientation(io.BytesIO(encode_image(random_picture(8, 8), "BMP"))) == 1


def two_halves(height: int = 40, width: int = 40) -> Image.Image:
    """Bright above, dark below."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[: height // 2] = 220
    return Image.fromarray(pixels)


def stored_as(orientation: int) -> bytes:
    """The two halves, upright once the orientation is applied."""
    stored = two_halves()
    if orientation == 6:  # turned clockwise to be seen: stored turned the other way
        stored = stored.transpose(Image.Transpose.ROTATE_90)
    return encode_turned(stored, orientation)


def is_upright(images: np.ndarray) -> bool:
    half = images.shape[1] // 2
    return bool((images[:, :half].mean((1, 2, 3)) > images[:, half:].mean((1, 2, 3)) + 100).all())


def write_turned(folder, count: int = 20, turned: int = 3) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        (folder / f"{k:03}.jpg").write_bytes(stored_as(6 if k < turned else 1))


def test_folders_galaxies_and_loose_images_are_upright_as_said(tmp_path, info_lines):
    for name in ("a", "b"):
        write_turned(tmp_path / "mine" / name)
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    line = "6 of 40 images turned by their EXIF orientation"
    assert line in info_lines() and is_upright(data.datasets["train"].images)
    data.prepare_data()  # as before a final test
    data.setup("test")
    assert "turned" not in info_lines()
    again = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))  # nothing to decode
    assert line in info_lines() and len(again.datasets["train"].images) == 40

    write_turned(tmp_path / "galaxyzoo" / "images")
    rows = "".join(f"{k:03},{k % 2}\n" for k in range(20))
    (tmp_path / "galaxyzoo" / "labels.csv").write_text(f"id,odd\n{rows}")
    galaxies = GalaxyZoo(
        data_dir=tmp_path, images="images", solutions="labels.csv", id_column="id", target="class",
        target_columns=["odd"], stored=16,
    )  # fmt: skip
    assert is_upright(set_up_data(galaxies).datasets["train"].images)
    assert "3 of 20 images turned by their EXIF orientation" in info_lines()

    loose = data.loose_images(tmp_path / "galaxyzoo" / "images", "error")
    assert is_upright(loose.__getitems__(np.arange(20))[0].numpy())
    assert "3 of 20 images turned by their EXIF orientation" in info_lines()


def test_arrays_decoded_without_orientation_are_decoded_again(tmp_path):
    write_turned(tmp_path / "mine" / "a")
    set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    path = tmp_path / "mine_16" / "train_images"
    np.save(path.with_suffix(".npy"), np.zeros((20, 16, 16, 3), np.uint8))
    manifest = {"ids": [f"a/{k:03}.jpg" for k in range(20)], "unreadable": {}}
    path.with_suffix(".json").write_text(json.dumps(manifest))
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    assert is_upright(data.datasets["train"].images)


# --- 16 bits


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_images_of_16_bits_keep_their_upper_eight_of_so_many(channels, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (20, 20, channels), np.uint16)
    square = decode_square(encode_deep_png(pixels), None, 20, bits)
    assert np.array_equal(square, np.broadcast_to(pixels[..., :3] >> (bits - 8), (20, 20, 3)))


def write_deep(folder, largest: int, count: int = 12, channels: int = 1) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        pixels = np.full((20, 20, channels), largest // 2, np.uint16)
        pixels[:10] = largest if k == 0 else largest - 1
        (folder / f"{k}.png").write_bytes(encode_deep_png(pixels))


@pytest.mark.parametrize("channels", [1, 3])
def test_12_bits_in_16_are_as_bright_as_8_and_it_is_said(tmp_path, info_lines, channels):
    for split, largest in (("train", 4000), ("val", 3000), ("test", 6000)):
        write_deep(tmp_path / "mine" / split / "a", largest, channels=channels)
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=10))
    line = info_lines()
    assert "36 16-bit images scaled from 0-4095 (12 of them have brighter pixels, cut off there)" in line
    train, val, test = (data.datasets[split].images for split in ("train", "val", "test"))
    assert train[0].max() == 4000 >> 4 and train[0].min() == 2000 >> 4  # as 8-bit images of the same scene
    assert val[0].max() == 3000 >> 4  # on the training images' scale
    assert test[0].max() == 255
    loose = data.loose_images(tmp_path / "mine" / "val", "error")
    assert loose.__getitems__(np.arange(1))[0].max() == 3000 >> 4
    assert "12 16-bit images scaled from 0-4095" in info_lines()


def test_16_bits_that_are_used_keep_the_scale_of_today(tmp_path, info_lines):
    write_deep(tmp_path / "mine" / "a", 65_000)
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=10))
    assert "scaled from 0-65535" in info_lines() and data.datasets["train"].images[0].max() == 65_000 >> 8


def test_a_truncated_image_of_16_bits_is_named(tmp_path):
    write_deep(tmp_path / "mine" / "a", 4000)
    path = tmp_path / "mine" / "a" / "3.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert "1 of 12 images cannot be decoded" in setup_error(ImageFolder("mine", data_dir=tmp_path, size=10))
    gray_and_alpha = encode_deep_png(np.zeros((8, 8, 2), np.uint16))
    with pytest.raises(ValueError, match="store it as gray, RGB or RGBA"):
        decode_square(gray_and_alpha, None, 8)


# --- images that are not square


@pytest.fixture
def wide_data(tmp_path):
    """40 images of 28 x 20 pixels with smooth colors."""
    (tmp_path / "wide").mkdir()
    images = np.stack([np.asarray(random_picture(28, 20, seed=k)) for k in range(40)])
    np.save(tmp_path / "wide" / "train_images.npy", images)
    np.save(tmp_path / "wide" / "train_labels.npy", np.arange(40) % 2)
    return tmp_path


PLAIN = {"mean": [0.0], "std": [1.0], "batch_size": 8}


@pytest.mark.parametrize("size", [None, 16, 20, 32])
def test_views_of_oblong_images_are_resized_and_center_cropped(wide_data, size, info_lines):
    data = set_up_data(
        Arrays("wide", data_dir=wide_data, size=size, views=[Recipe(), Recipe(flip=1)], **PLAIN)
    )
    assert (
        info_lines().count("images are 28 x 20 pixels: of the central 20 x 20, where a view does not crop")
        == 1
    )
    side = size or 20
    batch = data.read_batch("train", np.arange(4), CPU)
    views = data.read_batch("train", np.arange(4), CPU, augment=True).views
    images = torch.from_numpy(data.datasets["train"].images[data.datasets["train"].rows[:4]]).permute(
        0, 3, 1, 2
    )
    square = v2.functional.center_crop(images.float() / 255, [20, 20])
    theirs = v2.functional.resize(square, [side, side], antialias=True)
    torch.testing.assert_close(batch.views[0], theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(views[1], theirs.flip(3), atol=1e-5, rtol=0)
    resized = v2.functional.resize(
        images.float() / 255, [side], antialias=True
    )  # the other order, off by a fraction
    other_order = v2.functional.center_crop(resized, [side, side])
    assert (batch.views[0] - other_order).abs().mean() < 0.03
    assert data.recipes[0].size == side and data.display(batch.views[0]).shape == (4, side, side, 3)


def test_random_resized_crops_keep_boxes_in_the_whole_image(wide_data, info_lines):
    crops = Recipe(scale=(0.2, 1.0), ratio=(0.75, 1.33))
    data = set_up_data(Arrays("wide", data_dir=wide_data, views=[crops], center_crop=20, **PLAIN))
    assert data.read_batch("train", np.arange(4), CPU, augment=True).views[0].shape == (4, 3, 20, 20)
    assert "not crop" not in info_lines()


def test_square_images_have_the_numbers_they_had(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir, **PLAIN))
    images = torch.from_numpy(data.datasets["train"].images[data.datasets["train"].rows[:4]])
    assert torch.equal(
        data.read_batch("train", np.arange(4), CPU).views[0], images.permute(0, 3, 1, 2).float() / 255
    )


def test_loose_images_are_as_large_as_views_of_oblong_arrays(wide_data, tmp_path):
    data = set_up_data(Arrays("wide", data_dir=wide_data, **PLAIN))
    write_folders(tmp_path / "loose")
    assert data.loose_images(tmp_path / "loose", "error").__getitems__(np.arange(2))[0].shape == (
        2,
        20,
        20,
        3,
    )


# --- which files are read


def test_what_is_left_out_is_said_and_why(tmp_path, info_lines):
    root = tmp_path / "mine"
    write_folders(root, 4, under="train")
    write_folders(root, 2, under="Valid")
    picture = random_picture(8, 8)
    for name in ("a.webp", "b.webp", "c.tiff", "d.bmp", "e.gif"):
        picture.save(root / "train" / "apple" / name)
    (root / "train" / "apple" / "._0.JPG").write_bytes(b"\0\5\x16\7")  # what macOS puts beside 0.JPG
    (root / "train" / "leaf" / "old").mkdir()
    picture.save(root / "train" / "leaf" / "old" / "1.png")
    picture.save(root / "train" / "stray.png")
    picture.save(root / "Valid" / "stray.png")
    write_folders(root, 3, under="holdout")
    (root / "notes.txt").write_text("")
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 12, "val": 6}
    line = (
        f"{root}: 12 training, 6 validation images read; left out: 1 .bmp, 1 .gif, 1 .tiff, 1 .txt, 2 .webp "
        "(read are .jpg, .jpeg, .png), 1 hidden, 1 in the folder train/leaf/old, 9 in the folder holdout, "
        f"1 directly in {root / 'train'}, 1 directly in {root / 'Valid'}"
    )
    text = info_lines()
    assert set(line.split(", ")) == set(
        next(line for line in text.splitlines() if "images read" in line).split(", ")
    )
    data.prepare_data()
    assert "images read" not in info_lines()


def test_where_nothing_is_left_out_the_line_says_what_is_read(tmp_path, info_lines):
    write_folders(tmp_path / "mine")
    set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    assert f"{tmp_path / 'mine'}: 24 training images read\n" in info_lines()


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
@pytest.mark.parametrize("train, test", [("train", "test"), ("training", "testing"), ("Train", "TEST")])
def test_usual_names_of_splits_are_understood(tmp_path, train, val, test):
    for name, count in ((train, 5), (val, 2), (test, 3)):
        write_folders(tmp_path / "mine", count, under=name)
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16))
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 15, "val": 6, "test": 9}
    assert data.names_of("val")[0] == f"{val}/apple/0.JPG"


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        write_folders(tmp_path / "mine", 2, under=name)
    assert "val and valid are one split" in setup_error(ImageFolder("mine", data_dir=tmp_path, size=16))


def test_galaxies_beside_other_files(tmp_path, info_lines):
    folder = tmp_path / "galaxyzoo" / "images"
    write_turned(folder, 12, turned=0)
    (folder / "._000.jpg").write_bytes(b"\0\5\x16\7")
    random_picture(8, 8).save(folder / "extra.png")
    (tmp_path / "galaxyzoo" / "labels.csv").write_text(
        "id,odd\n" + "".join(f"{k:03},{k % 2}\n" for k in range(12))
    )
    options = {"images": "images", "solutions": "labels.csv", "id_column": "id", "target_columns": ["odd"]}
    set_up_data(GalaxyZoo(data_dir=tmp_path, target="class", stored=16, **options))
    line = info_lines()
    assert f"{folder}: 12 images read; left out: 1 .png (read are .jpg, .jpeg), 1 hidden" in line
    (folder / "000.jpeg").write_bytes((folder / "000.jpg").read_bytes())
    text = setup_error(GalaxyZoo(data_dir=tmp_path, target="class", stored=16, **options))
    assert "000.jpg" in text and "have the same id" in text


def test_loose_images_beside_other_files(tmp_path, data_dir, info_lines):
    write_folders(tmp_path / "loose", 2)
    (tmp_path / "loose" / "apple" / "._0.JPG").write_bytes(b"")
    random_picture(8, 8).save(tmp_path / "loose" / "leaf" / "a.webp")
    data = set_up_data(Arrays("tiny", data_dir=data_dir))
    info_lines()
    assert len(data.loose_images(tmp_path / "loose", "error")) == 6
    line = "6 images read; left out: 1 .webp (read are .jpg, .jpeg, .png), 1 hidden"
    assert f"{tmp_path / 'loose'}: {line}" in info_lines()


def test_a_folder_called_like_an_image_is_none(tmp_path):
    write_folders(tmp_path / "mine")
    os.mkdir(tmp_path / "mine" / "apple" / "album.jpg")
    assert len(set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16)).datasets["train"].images) == 24
