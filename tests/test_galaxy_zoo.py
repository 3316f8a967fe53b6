"""Galaxy Zoo: the decision tree, the CSV, the folder of JPGs, and what becomes of them."""

import io
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image

import cli
from datamodules import jpeg_folder
from datamodules.augment import Recipe
from datamodules.csv_targets import as_classes, read_columns
from datamodules.galaxy_tree import COLUMNS, PLACES, TREE, largest_answer, likeliest_path, paths, shares
from datamodules.galaxy_zoo import GalaxyZoo
from datamodules.jpeg_folder import central_square, contents, pack
from tests.galaxies import galaxies_of, random_fractions, write_csv, write_galaxies
from tests.test_datamodules import CPU, ready

DATA = Path(cli.__file__).parent / "data"

# --- the decision tree

SUMS = {  # the answers of a question sum to these columns; 1 where there are none
    1: [], 2: ["Class1.2"], 3: ["Class2.2"], 4: ["Class2.2"], 5: ["Class2.2"], 6: [], 7: ["Class1.1"],
    8: ["Class6.1"], 9: ["Class2.1"], 10: ["Class4.1"], 11: ["Class4.1"],
}  # fmt: skip
WAYS = {  # all answers that lead to an answer, itself included
    "Class1.3": ["Class1.3"],
    "Class7.2": ["Class1.1", "Class7.2"],
    "Class9.3": ["Class1.2", "Class2.1", "Class9.3"],
    "Class3.1": ["Class1.2", "Class2.2", "Class3.1"],
    "Class11.2": ["Class1.2", "Class2.2", "Class4.1", "Class11.2"],
    "Class5.4": ["Class1.2", "Class2.2", "Class5.4"],
    "Class8.7": ["Class6.1", "Class8.7"],
}


def assert_fractions_obey_the_tree(fractions: np.ndarray, tolerance: float):
    for question, leading in SUMS.items():
        reached = fractions[:, [COLUMNS.index(name) for name in leading]].sum(1) if leading else 1
        np.testing.assert_allclose(fractions[:, PLACES[question]].sum(1), reached, atol=tolerance)


def path_probabilities(share: np.ndarray) -> list[float]:
    """Of one galaxy, path by path and answer by answer."""
    probabilities = []
    for path in paths():
        question, product = 1, 1.0
        for answer in path:
            product *= share[PLACES[question][list(TREE[question]).index(answer)]]
            question = TREE[question][answer]
        assert question is None
        probabilities.append(product)
    return probabilities


def test_the_columns_are_the_challenges():
    assert len(COLUMNS) == 37 and COLUMNS[:4] == ["Class1.1", "Class1.2", "Class1.3", "Class2.1"]
    assert [len(answers) for answers in TREE.values()] == [3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6]
    assert sorted(place for places in PLACES.values() for place in places) == list(range(37))


def test_every_path_is_counted_once():
    edge_on = smooth = 3 * (7 + 1)
    face_on = 2 * (3 * 6 + 1) * 4 * (7 + 1)
    assert len(paths()) == len(set(paths())) == smooth + edge_on + face_on + 1 == 1265


def test_an_answers_fraction_is_the_product_of_the_shares_on_its_way():
    fractions = random_fractions(50)
    assert_fractions_obey_the_tree(fractions, 1e-12)
    share = shares(fractions)
    for places in PLACES.values():
        np.testing.assert_allclose(share[:, places].sum(1), 1)
    for column, way in WAYS.items():
        product = np.prod([share[:, COLUMNS.index(name)] for name in way], axis=0)
        np.testing.assert_allclose(fractions[:, COLUMNS.index(column)], product, atol=1e-12)


def test_the_likeliest_path_is_that_of_all_paths_in_a_loop():
    fractions = random_fractions(30)
    for chosen, share in zip(likeliest_path(fractions), shares(fractions), strict=True):
        probabilities = path_probabilities(share)
        assert sum(probabilities) == pytest.approx(1)
        assert chosen == np.argmax(probabilities)


def test_a_path_of_which_all_are_sure():
    fractions = np.zeros((1, 37))
    answers = ("disk", "not edge-on", "bar", "spiral", "loose arms", "2 arms", "small bulge", "odd", "merger")
    question = 1
    for answer in answers:
        fractions[0, PLACES[question][list(TREE[question]).index(answer)]] = 1
        question = TREE[question][answer]
    assert paths()[likeliest_path(fractions)[0]] == answers


def test_what_is_unknown_has_no_path_and_no_answer():
    fractions = random_fractions(3)
    fractions[0, 5] = np.nan
    fractions[1] = 0
    path, answer = likeliest_path(fractions), largest_answer(fractions, 3)
    assert path[0] == path[1] == answer[0] == answer[1] == -1 and path[2] >= 0 and answer[2] >= 0
    assert largest_answer(fractions, 1)[0] >= 0  # another question, that is known


def test_the_largest_answer_is_that_with_most_votes():
    fractions = random_fractions(20)
    for question, answers in TREE.items():
        for chosen, row in zip(largest_answer(fractions, question), fractions, strict=True):
            votes = [row[COLUMNS.index(f"Class{question}.{k + 1}")] for k in range(len(answers))]
            assert votes[chosen] == max(votes)


# --- the CSV


def test_columns_are_read_in_the_order_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffid, a ,b,"c, d"\n7,1.5,,x\n\n008, 2,1e-3,"y\nz"\n', encoding="utf-8")
    columns = read_columns(path, ["c, d", "id"], ["b", "a"])
    assert columns.text == {"c, d": ["x", "y\nz"], "id": ["7", "008"]} and columns.lines == [2, 5]
    assert columns.numbers.dtype == np.float32
    np.testing.assert_array_equal(columns.numbers, np.float32([[np.nan, 1.5], [1e-3, 2]]))
    assert read_columns(path, ["id"], []).numbers.shape == (2, 0)


WRONG_ROWS = {  # what the last line is: (the line, what the message must say)
    "too short": ("3,0.5", "2 cells where the header has 3"),
    "too long": ("3,0.5,1,1", "4 cells where the header has 3"),
    "a word": ("3,0.5,many", "many"),
    "infinite": ("3,0.5,inf", "inf"),
    "a quote without end": ('3,0.5,"1', "unexpected end of data"),
    "no text": ("3,0.5,\x00\xff", "float"),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_a_row_that_does_not_parse_is_named_with_file_and_line(wrong, tmp_path):
    line, says = WRONG_ROWS[wrong]
    path = tmp_path / "a.csv"
    path.write_bytes(f"id,a,b\n1,0.5,0.5\n\n2,0,1\n{line}".encode("latin-1"))
    with pytest.raises(MisconfigurationException) as error:
        read_columns(path, ["id"], ["a", "b"])
    assert f"{path}, line 5: " in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("text", ["id,a\n1,2\n", ""])
def test_a_column_that_is_not_there_is_named(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(MisconfigurationException, match="no column 'b'") as error:
        read_columns(path, ["id"] if text else [], ["b"])
    assert str(path) in str(error.value)


@pytest.mark.parametrize("cells, labels, names", [
    (["1", "0", "-1", "", "1"], [1, 0, -1, -1, 1], ["0", "1"]),
    (["10", "2", "2"], [1, 0, 0], ["2", "10"]),
    (["spiral", "round", "", "spiral"], [1, 0, -1, 1], ["round", "spiral"]),
    (["", "-1"], [-1, -1], []),
])  # fmt: skip
def test_cells_become_classes(cells, labels, names):
    found, known = as_classes(cells)
    assert found.tolist() == labels and found.dtype == np.int64 and known == names


# --- JPGs


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours, and some detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.uint8(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255)))


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def by_pil(data: bytes, crop: int, side: int) -> np.ndarray:
    """The whole image decoded, its centre cropped, resized with antialiasing."""
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
    data = jpeg(picture(height, width))
    ours, theirs = central_square(data, crop, side), by_pil(data, crop, side)
    assert ours.dtype == np.uint8 and ours.shape == (side, side, 3)
    difference = np.abs(ours - theirs)
    assert difference.mean() < mean and difference.max() <= most


def test_a_gray_jpg_has_three_equal_channels():
    square = central_square(jpeg(picture(64, 64).convert("L")), 64, 32)
    assert square.shape == (32, 32, 3) and (square == square[..., :1]).all()


@pytest.fixture
def folder(tmp_path):
    """Seven JPGs of 32 x 32, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(7):
        suffix = ".JPEG" if k == 3 else ".jpg"
        (folder / f"{k}{suffix}").write_bytes(jpeg(picture(32, 32, seed=k)))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_is_decoded_once(folder, tmp_path, monkeypatch):
    out = tmp_path / "pictures_32to16.npy"
    pack(folder, out, 32, 16)
    images = np.load(out)
    assert images.shape == (7, 16, 16, 3) and images.dtype == np.uint8
    assert contents(out)["ids"] == list("0123456") and contents(out)["unreadable"] == {}
    for k in range(7):
        path = next(folder.glob(f"{k}.*"))
        assert np.array_equal(images[k], central_square(path.read_bytes(), 32, 16))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pictures",
        out.with_suffix(".json").name,
        out.name,
    ]
    monkeypatch.setattr(jpeg_folder, "decode", lambda *args: pytest.fail("it decodes again"))
    pack(folder, out, 32, 16)


def test_a_folder_that_has_changed_is_decoded_again(folder, tmp_path):
    out = tmp_path / "a.npy"
    pack(folder, out, 32, 16)
    (folder / "7.jpg").write_bytes(jpeg(picture(32, 32, seed=7)))
    pack(folder, out, 32, 16)
    assert contents(out)["ids"] == list("01234567") and len(np.load(out)) == 8


def test_what_is_decoded_is_used_without_its_folder(folder, tmp_path):
    out = tmp_path / "a.npy"
    pack(folder, out, 32, 16)
    folder.rename(tmp_path / "elsewhere")
    pack(folder, out, 32, 16)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "png"])
def test_a_corrupt_image_is_named_and_only_left_out_when_asked_to(damage, folder, tmp_path):
    path, out = folder / "4.jpg", tmp_path / "a.npy"
    whole, png = path.read_bytes(), io.BytesIO()
    picture(32, 32).save(png, "PNG")
    path.write_bytes(
        {"truncated": whole[:-300], "empty": b"", "text": b"no picture", "png": png.getvalue()}[damage]
    )
    for _ in range(2):
        with pytest.raises(MisconfigurationException) as error:
            pack(folder, out, 32, 16)
        assert f"1 of 7 images cannot be decoded, the first is {path}" in str(error.value)
        assert "\n" not in str(error.value) and "skip_corrupt" in str(error.value)
    pack(folder, out, 32, 16, skip_corrupt=True)
    assert list(contents(out)["unreadable"]) == ["4"]
    images = np.load(out)
    assert not images[4].any() and images[3].any()
    path.write_bytes(whole)
    pack(folder, out, 32, 16)  # got again: nothing to leave out
    assert contents(out)["unreadable"] == {} and np.load(out)[4].any()


def test_a_folder_without_jpgs_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(MisconfigurationException, match=r"no JPGs in .*pictures"):
        pack(tmp_path / "pictures", tmp_path / "a.npy", 32, 16)


# --- the data module


@pytest.fixture
def zoo(tmp_path):
    """data_dir with a small Galaxy Zoo of 40 galaxies, and its fractions."""
    fractions = write_galaxies(tmp_path / "galaxyzoo")
    return SimpleNamespace(data_dir=tmp_path, folder=tmp_path / "galaxyzoo", fractions=np.float32(fractions))


def galaxies(zoo, **options):
    return ready(GalaxyZoo(data_dir=zoo.data_dir, **({"stored": 16} | options)))


def stored(data) -> dict[int, torch.Tensor]:
    """Galaxy -> label, over all splits."""
    found = {}
    for split in data.datasets.values():
        images, labels, _ = split.__getitems__(np.arange(len(split)))
        for galaxy, label in zip(galaxies_of(images), labels, strict=True):
            assert galaxy not in found
            found[galaxy] = label
    return found


def test_regression_is_on_the_vote_fractions(zoo):
    data = galaxies(zoo)
    assert data.num_classes is None and data.class_names is None and data.num_outputs == 37
    found = stored(data)
    assert sorted(found) == list(range(40))
    labels = torch.stack([found[k] for k in range(40)])
    assert labels.dtype == torch.float32
    np.testing.assert_allclose(labels, zoo.fractions, atol=1e-6)


def test_a_question_has_a_class_an_answer(zoo):
    data = galaxies(zoo, target="question 7")
    assert data.num_classes == data.num_outputs == 3
    assert data.class_names == ["round", "in between", "cigar-shaped"]
    found = stored(data)
    assert [int(found[k]) for k in range(40)] == largest_answer(zoo.fractions, 7).tolist()


def test_paths_that_are_taken_are_classes_the_most_frequent_first(zoo):
    data = galaxies(zoo, target="path")
    found, chosen = stored(data), likeliest_path(zoo.fractions)
    for k in range(40):
        assert data.class_names[int(found[k])] == ", ".join(paths()[chosen[k]])
    counts = np.bincount([int(label) for label in found.values()], minlength=data.num_classes)
    assert len(counts) == len(np.unique(chosen)) and (np.diff(counts) <= 0).all() and counts.min() > 0


def own_csv(zoo, header, rows, name="own.csv"):
    write_csv(zoo.folder / name, header, rows)
    return {"solutions": name, "id_column": header[0]}


def test_any_column_of_any_csv(zoo):
    rows = [[1000 + k, "barred" if k % 3 else "plain", k / 8 if k else ""] for k in range(40)]
    options = own_csv(zoo, ["image", "shape", "radius"], rows)
    data = galaxies(zoo, target="class", target_columns=["shape"], **options)
    found = stored(data)
    assert data.class_names == ["barred", "plain"]
    assert [int(found[k]) for k in range(40)] == [int(k % 3 == 0) for k in range(40)]
    data = galaxies(zoo, target_columns=["radius"], **options)
    found = stored(data)
    assert data.num_classes is None and data.num_outputs == 1 and found[0].isnan().all()
    assert [found[k].item() for k in range(1, 40)] == [k / 8 for k in range(1, 40)]


def names(data) -> dict[str, set[int]]:
    parts = {}
    for name, split in data.datasets.items():
        images, *_ = split.__getitems__(np.arange(len(split)))
        parts[name] = set(galaxies_of(images))
    return parts


def test_splits_are_the_csvs(zoo):
    split = ["train"] * 20 + ["val"] * 5 + ["test"] * 5 + ["unlabeled"] * 10
    rows = [[1000 + k, split[k], k % 2 if k < 30 else -1] for k in reversed(range(40))]
    options = own_csv(zoo, ["id", "split", "odd"], rows) | {"target": "class", "target_columns": ["odd"]}
    expected = {"train": set(range(20)), "val": set(range(20, 25)), "test": set(range(25, 30))}
    assert names(galaxies(zoo, **options)) == expected
    data = galaxies(zoo, train_on="unlabeled", **options)
    assert names(data) == expected | {"bank": set(range(20)), "train": {*range(20), *range(30, 40)}}
    assert (data.datasets["train"].labels == -1).all() and (data.datasets["bank"].labels >= 0).all()
    assert len(galaxies(zoo, train_on="unlabeled", unlabeled=7, **options).datasets["train"]) == 7


def test_val_is_carved_where_the_csv_has_none(zoo):
    rows = [[1000 + k, "test" if k < 10 else "train", k % 2] for k in range(40)]
    options = own_csv(zoo, ["id", "split", "odd"], rows) | {"target": "class", "target_columns": ["odd"]}
    data = galaxies(zoo, val_size=0.2, **options)
    parts = names(data)
    assert parts["test"] == set(range(10)) and parts["train"] | parts["val"] == set(range(10, 40))
    assert torch.bincount(data.datasets["val"].labels).tolist() == [3, 3]


def test_carved_splits_are_fixed_by_seeds_of_their_own(zoo):
    base = names(galaxies(zoo, test_size=0.2, val_size=0.25))
    assert {name: len(part) for name, part in base.items()} == {"train": 24, "val": 8, "test": 8}
    assert len(set.union(*base.values())) == 40
    assert names(galaxies(zoo, test_size=0.2, val_size=0.25, seed=3)) == base
    other = names(galaxies(zoo, test_size=0.2, split_seed=3, target="question 1"))
    assert other["test"] == base["test"] and other["val"] != base["val"]
    assert "test" not in names(galaxies(zoo, test_size=0.0))


def test_another_target_needs_no_decoding_and_another_size_another_file(zoo, monkeypatch):
    galaxies(zoo, stored=8)
    galaxies(zoo, crop=24)
    assert sorted(path.name for path in zoo.folder.glob("*.npy")) == [
        "images_training_rev1_24to16.npy", "images_training_rev1_256to8.npy"
    ]  # fmt: skip
    monkeypatch.setattr(jpeg_folder, "decode", lambda *args: pytest.fail("it decodes again"))
    galaxies(zoo, target="question 1", stored=8)


def test_flips_and_rotations_by_any_angle(zoo):
    data = GalaxyZoo(data_dir=zoo.data_dir, stored=16, views=[Recipe(flip=0.5, rotate=180)], batch_size=16)
    data = ready(data, training=True)
    (view,), labels, *_ = data.transfer_batch_to_device(next(iter(data.train_dataloader())), CPU, 0)
    assert view.shape == (16, 3, 16, 16) and labels.shape == (16, 37)


# --- errors: one line


def refusal(zoo, **options) -> str:
    with pytest.raises(MisconfigurationException) as error:
        galaxies(zoo, **options).num_classes  # noqa: B018
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("there", [True, False])
def test_what_is_missing_is_told_with_its_place_and_how_to_get_it(there, tmp_path):
    if there:
        write_galaxies(tmp_path / "galaxyzoo", count=3)
        (tmp_path / "galaxyzoo" / "training_solutions_rev1.csv").unlink()
    text = refusal(SimpleNamespace(data_dir=tmp_path))
    name = "training_solutions_rev1.csv" if there else "images_training_rev1"
    assert str(tmp_path / "galaxyzoo" / name) in text
    assert "galaxy-zoo-the-galaxy-challenge" in text and "data_dir" in text


def test_images_without_a_row_and_rows_without_an_image_are_counted_in_one_line(zoo, caplog, capsys):
    path = zoo.folder / "training_solutions_rev1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[3:], lines[1].replace("1000,", "77,", 1)]) + "\n")
    corrupt = zoo.folder / "images_training_rev1" / "1009.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    with caplog.at_level("INFO"):
        data = galaxies(zoo, skip_corrupt=True)
    said = [line for line in (caplog.text + capsys.readouterr().err).splitlines() if "left out are" in line]
    assert len(said) == 1 and str(path) in said[0] and "37 images with a row" in said[0]
    for part in ("images that cannot be decoded: 1", "images without a row: 2", "rows without an image: 1"):
        assert part in said[0]
    assert sorted(stored(data)) == [2, 3, 4, 5, 6, 7, 8, *range(10, 40)]


def test_a_corrupt_image_is_refused(zoo):
    (zoo.folder / "images_training_rev1" / "1009.jpg").write_bytes(b"no picture")
    assert "1009.jpg" in refusal(zoo) and "skip_corrupt" in refusal(zoo)


def test_a_csv_that_names_other_images_is_refused(zoo):
    options = own_csv(zoo, ["id", "a"], [[f"g{k}", 1] for k in range(5)])
    text = refusal(zoo, target_columns=["a"], **options)
    assert "own.csv" in text and "'g0'" in text and "'1000'" in text and "id_column" in text


@pytest.mark.parametrize("rows, says", [
    ([[1000, "train", 1], [1001, "dev", 1]], r"own.csv, line 3: split 'dev' is none of train, val, test"),
    ([[1000, "train", 1], [1001, "val", 1], [1000, "val", 1]], r"own.csv, line 4: id 1000 is there twice"),
    ([[1000, "train", 1], [1001, "val", "x"]], r"own.csv, line 3: .*'x'"),
])  # fmt: skip
def test_a_row_that_makes_no_sense_is_named(zoo, rows, says):
    options = own_csv(zoo, ["id", "split", "a"], rows)
    assert re.search(says, refusal(zoo, target_columns=["a"], **options))


@pytest.mark.parametrize("options, says", [
    ({"target": "class"}, "single column"),
    ({"target": "class", "target_columns": ["a", "b"]}, "single column"),
    ({"target": "path", "target_columns": ["a"]}, "leave target_columns out"),
    ({"target": "question 3", "target_columns": ["a"]}, "leave target_columns out"),
    ({"target_columns": ["Class1.9"]}, "no column 'Class1.9'"),
])  # fmt: skip
def test_a_target_that_does_not_fit_is_refused(zoo, options, says):
    assert says in refusal(zoo, **options)


# --- the real ones


def present(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"data/{name} is not there")
    return DATA / name


def test_simulated_fractions_obey_the_tree(tmp_path):
    source = present("galaxyzoo_sim")
    fractions = read_columns(source / "training_solutions_rev1.csv", [], COLUMNS).numbers
    assert fractions.shape == (4000, 37)
    assert_fractions_obey_the_tree(fractions, 1e-5)
    chosen = likeliest_path(fractions)
    for k in range(0, 4000, 400):
        probabilities = path_probabilities(shares(fractions)[k])
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert probabilities[chosen[k]] == pytest.approx(max(probabilities))


def linked(source: Path, folder: Path) -> Path:
    """A folder with links to what the source holds: what is written stays here."""
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix in ("", ".csv"):
            (folder / path.name).symlink_to(path)
    return folder.parent


def test_simulated_galaxies(tmp_path):
    data_dir = linked(present("galaxyzoo_sim"), tmp_path / "galaxyzoo_sim")
    data = ready(GalaxyZoo("galaxyzoo_sim", data_dir=data_dir, target="path"))
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 3255,
        "val": 345,
        "test": 400,
    }
    assert data.datasets["train"].images.shape == (4000, 64, 64, 3)


def test_real_galaxies(tmp_path):
    data_dir = linked(present("galaxyzoo"), tmp_path / "galaxyzoo")
    options = {"data_dir": data_dir, "images": "images", "solutions": "labels.csv"}
    data = ready(GalaxyZoo(**options, target="class", target_columns=["odd_spiral"]))
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 4556,
        "val": 651,
        "test": 1300,
    }
    shares_of_ones = [part.labels.float().mean().item() for part in data.datasets.values()]
    assert all(math.isclose(share, 0.24, abs_tol=0.01) for share in shares_of_ones)
    data = ready(GalaxyZoo(**options, target_columns=["axis_ratio", "petro_radius"], train_on="unlabeled"))
    assert len(data.datasets["train"]) == 5753 and len(data.datasets["bank"]) == 4556
    assert data.num_outputs == 2 and data.datasets["bank"].labels.isfinite().all()
