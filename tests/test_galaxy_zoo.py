"""Galaxy Zoo as a data module: labels and splits from a CSV, images from a folder of JPGs."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.augmentation.augment import Recipe
from datamodules.galaxy_zoo import GalaxyZoo
from datamodules.storage import image_files
from datamodules.storage.galaxy_tree import largest_answer, likeliest_path, list_paths
from tests.data_modules import CPU, set_up_data
from tests.errors import refused_in_one_line
from tests.galaxies import galaxies_of, require_data, write_csv, write_galaxies

# --- the data module


@pytest.fixture
def zoo(tmp_path):
    """data_dir with a small Galaxy Zoo of 40 galaxies, and its fractions."""
    fractions = write_galaxies(tmp_path / "galaxyzoo")
    return SimpleNamespace(data_dir=tmp_path, folder=tmp_path / "galaxyzoo", fractions=np.float32(fractions))


def galaxy_data(zoo, **options):
    return set_up_data(GalaxyZoo(data_dir=zoo.data_dir, **({"stored": 16} | options)))


def labels_by_galaxy(data) -> dict[int, torch.Tensor]:
    """Galaxy -> label, over all splits."""
    label_of = {}
    for split in data.datasets.values():
        images, labels, _ = split.__getitems__(np.arange(len(split)))
        for galaxy, label in zip(galaxies_of(images), labels, strict=True):
            assert galaxy not in label_of
            label_of[galaxy] = label
    return label_of


def test_regression_is_on_the_vote_fractions(zoo):
    data = galaxy_data(zoo)
    assert data.num_classes is None and data.class_names is None and data.num_outputs == 37
    labels = labels_by_galaxy(data)
    assert sorted(labels) == list(range(40))
    labels = torch.stack([labels[k] for k in range(40)])
    assert labels.dtype == torch.float32
    np.testing.assert_allclose(labels, zoo.fractions, atol=1e-6)


def test_a_question_has_a_class_an_answer(zoo):
    data = galaxy_data(zoo, target="question 7")
    assert data.num_classes == data.num_outputs == 3
    assert data.class_names == ["round", "in between", "cigar-shaped"]
    labels = labels_by_galaxy(data)
    assert [int(labels[k]) for k in range(40)] == largest_answer(zoo.fractions, 7).tolist()


def test_paths_that_are_taken_are_classes_the_most_frequent_first(zoo):
    data = galaxy_data(zoo, target="path", min_examples=1)
    labels, paths = labels_by_galaxy(data), likeliest_path(zoo.fractions)
    for k in range(40):
        assert data.class_names[int(labels[k])] == ", ".join(list_paths()[paths[k]])
    counts = np.bincount([int(label) for label in labels.values()], minlength=data.num_classes)
    assert len(counts) == len(np.unique(paths)) and (np.diff(counts) <= 0).all() and counts.min() > 0


def test_galaxies_on_a_path_that_few_take_are_unknown(zoo):
    every, frequent = (galaxy_data(zoo, target="path", min_examples=least) for least in (1, 2))
    counts = torch.bincount(torch.stack(list(labels_by_galaxy(every).values())))
    assert frequent.num_classes == (counts >= 2).sum() < every.num_classes
    assert frequent.class_names == every.class_names[: frequent.num_classes]
    label_of = labels_by_galaxy(frequent)
    for galaxy, label in labels_by_galaxy(every).items():
        assert label_of[galaxy] == (label if label < frequent.num_classes else -1)


def write_own_csv(zoo, header, rows, name="own.csv"):
    write_csv(zoo.folder / name, header, rows)
    return {"solutions": name, "id_column": header[0]}


def test_any_column_of_any_csv(zoo):
    rows = [[1000 + k, "barred" if k % 3 else "plain", k / 8 if k else ""] for k in range(40)]
    options = write_own_csv(zoo, ["image", "shape", "radius"], rows)
    data = galaxy_data(zoo, target="class", target_columns=["shape"], **options)
    labels = labels_by_galaxy(data)
    assert data.class_names == ["barred", "plain"]
    assert [int(labels[k]) for k in range(40)] == [int(k % 3 == 0) for k in range(40)]
    data = galaxy_data(zoo, target_columns=["radius"], **options)
    labels = labels_by_galaxy(data)
    assert data.num_classes is None and data.num_outputs == 1 and labels[0].isnan().all()
    assert [labels[k].item() for k in range(1, 40)] == [k / 8 for k in range(1, 40)]


def names_by_split(data) -> dict[str, set[int]]:
    parts = {}
    for name, split in data.datasets.items():
        images, *_ = split.__getitems__(np.arange(len(split)))
        parts[name] = set(galaxies_of(images))
    return parts


def test_splits_are_the_csvs(zoo):
    split = ["train"] * 20 + ["val"] * 5 + ["test"] * 5 + ["unlabeled"] * 10
    rows = [[1000 + k, split[k], k % 2 if k < 30 else -1] for k in reversed(range(40))]
    options = write_own_csv(zoo, ["id", "split", "odd"], rows) | {
        "target": "class",
        "target_columns": ["odd"],
    }
    expected = {"train": set(range(20)), "val": set(range(20, 25)), "test": set(range(25, 30))}
    assert names_by_split(galaxy_data(zoo, **options)) == expected
    data = galaxy_data(zoo, train_on="unlabeled", **options)
    assert names_by_split(data) == expected | {"bank": set(range(20)), "train": {*range(20), *range(30, 40)}}
    assert (data.datasets["train"].labels == -1).all() and (data.datasets["bank"].labels >= 0).all()
    assert len(galaxy_data(zoo, train_on="unlabeled", unlabeled=7, **options).datasets["train"]) == 7


def test_val_is_held_out_where_the_csv_has_none(zoo):
    rows = [[1000 + k, "test" if k < 10 else "train", k % 2] for k in range(40)]
    options = write_own_csv(zoo, ["id", "split", "odd"], rows) | {
        "target": "class",
        "target_columns": ["odd"],
    }
    data = galaxy_data(zoo, val_size=0.2, **options)
    parts = names_by_split(data)
    assert parts["test"] == set(range(10)) and parts["train"] | parts["val"] == set(range(10, 40))
    assert torch.bincount(data.datasets["val"].labels).tolist() == [3, 3]


def test_held_out_splits_are_fixed_by_seeds_of_their_own(zoo):
    base = names_by_split(galaxy_data(zoo, test_size=0.2, val_size=0.25))
    assert {name: len(part) for name, part in base.items()} == {"train": 24, "val": 8, "test": 8}
    assert len(set.union(*base.values())) == 40
    assert names_by_split(galaxy_data(zoo, test_size=0.2, val_size=0.25, seed=3)) == base
    other = names_by_split(galaxy_data(zoo, test_size=0.2, split_seed=3, target="question 1"))
    assert other["test"] == base["test"] and other["val"] != base["val"]
    assert "test" not in names_by_split(galaxy_data(zoo, test_size=0.0))


def test_another_target_needs_no_decoding_and_another_size_does(zoo, monkeypatch):
    galaxy_data(zoo, stored=8)
    galaxy_data(zoo, crop=24)
    assert sorted(path.name for path in zoo.folder.glob("*.npy")) == [
        "images_training_rev1_24to16.npy", "images_training_rev1_256to8.npy"
    ]  # fmt: skip
    monkeypatch.setattr(image_files, "decode_images", lambda *args: pytest.fail("it decodes again"))
    galaxy_data(zoo, target="question 1", stored=8)


def test_flips_and_rotations_by_any_angle(zoo):
    data = GalaxyZoo(data_dir=zoo.data_dir, stored=16, views=[Recipe(flip=0.5, rotate=180)], batch_size=16)
    data = set_up_data(data, training=True)
    (view,), labels, *_ = data.transfer_batch_to_device(next(iter(data.train_dataloader())), CPU, 0)
    assert view.shape == (16, 3, 16, 16) and labels.shape == (16, 37)


# --- errors: one line


def galaxy_error(zoo, **options) -> str:
    with refused_in_one_line() as error:
        galaxy_data(zoo, **options).num_classes  # noqa: B018
    return str(error.value)


@pytest.mark.parametrize("has_images", [True, False])
def test_a_missing_file_is_told_with_its_place_and_how_to_get_it(has_images, tmp_path):
    if has_images:
        write_galaxies(tmp_path / "galaxyzoo", count=3)
        (tmp_path / "galaxyzoo" / "training_solutions_rev1.csv").unlink()
    text = galaxy_error(SimpleNamespace(data_dir=tmp_path))
    name = "training_solutions_rev1.csv" if has_images else "images_training_rev1"
    assert str(tmp_path / "galaxyzoo" / name) in text
    assert "galaxy-zoo-the-galaxy-challenge" in text and "data_dir" in text


def test_unmatched_images_and_rows_are_counted_in_one_line(zoo, caplog, capsys):
    path = zoo.folder / "training_solutions_rev1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[3:], lines[1].replace("1000,", "77,", 1)]) + "\n")
    corrupt = zoo.folder / "images_training_rev1" / "1009.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    with caplog.at_level("INFO"):
        data = galaxy_data(zoo, on_bad_image="skip")
    lines = (caplog.text + capsys.readouterr().err).splitlines()
    assert sum(f"1 of 40 images cannot be decoded, the first is {corrupt} (" in line for line in lines) == 1
    counts = [line for line in lines if "left out are" in line]
    assert len(counts) == 1 and str(path) in counts[0] and "37 images with a row" in counts[0]
    for part in ("images without a row: 2", "rows without an image: 1"):
        assert part in counts[0]
    assert sorted(labels_by_galaxy(data)) == [2, 3, 4, 5, 6, 7, 8, *range(10, 40)]


def test_a_corrupt_image_is_refused(zoo):
    (zoo.folder / "images_training_rev1" / "1009.jpg").write_bytes(b"no picture")
    assert "1009.jpg" in galaxy_error(zoo) and "on_bad_image" in galaxy_error(zoo)


def test_a_csv_that_names_other_images_is_refused(zoo):
    options = write_own_csv(zoo, ["id", "a"], [[f"g{k}", 1] for k in range(5)])
    text = galaxy_error(zoo, target_columns=["a"], **options)
    assert "own.csv" in text and "'g0'" in text and "'1000'" in text and "id_column" in text


@pytest.mark.parametrize("rows, says", [
    ([[1000, "train", 1], [1001, "dev", 1]], r"own.csv, line 3: split 'dev' is none of train, val, test"),
    ([[1000, "train", 1], [1001, "val", 1], [1000, "val", 1]], r"own.csv, line 4: id 1000 is there twice"),
    ([[1000, "train", 1], [1001, "val", "x"]], r"own.csv, line 3: .*'x'"),
])  # fmt: skip
def test_a_row_that_makes_no_sense_is_named(zoo, rows, says):
    options = write_own_csv(zoo, ["id", "split", "a"], rows)
    assert re.search(says, galaxy_error(zoo, target_columns=["a"], **options))


@pytest.mark.parametrize("wrong", ["1.5", "-0.25"])
def test_a_vote_fraction_out_of_range_is_named(zoo, wrong):
    path = zoo.folder / "training_solutions_rev1.csv"
    lines = path.read_text().splitlines()
    cells = lines[4].split(",")
    lines[4] = ",".join([*cells[:3], wrong, *cells[4:]])
    path.write_text("\n".join(lines))
    assert f"{path}, line 5: Class1.3 is {wrong}, a vote fraction lies in [0, 1]" in galaxy_error(zoo)


@pytest.mark.parametrize("options, says", [
    ({"target": "class"}, "single column"),
    ({"target": "class", "target_columns": ["a", "b"]}, "single column"),
    ({"target": "path", "target_columns": ["a"]}, "leave target_columns out"),
    ({"target": "question 3", "target_columns": ["a"]}, "leave target_columns out"),
    ({"target_columns": ["Class1.9"]}, "no column 'Class1.9'"),
    ({"target": "path", "min_examples": 41}, "no path is that of 41 galaxies: lower min_examples"),
])  # fmt: skip
def test_a_target_that_does_not_fit_is_refused(zoo, options, says):
    assert says in galaxy_error(zoo, **options)


# --- the real ones


def link_images(source: Path, folder: Path) -> Path:
    """A folder with links to what the source holds: what is written stays here."""
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix in ("", ".csv"):
            (folder / path.name).symlink_to(path)
    return folder.parent


def test_simulated_galaxies(tmp_path):
    data_dir = link_images(require_data("galaxyzoo_sim"), tmp_path / "galaxyzoo_sim")
    data = set_up_data(GalaxyZoo("galaxyzoo_sim", data_dir=data_dir, target="path"))
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 3239,
        "val": 361,
        "test": 400,
    }
    assert data.datasets["train"].images.shape == (4000, 64, 64, 3)


def test_real_galaxies(tmp_path):
    data_dir = link_images(require_data("galaxyzoo"), tmp_path / "galaxyzoo")
    options = {"data_dir": data_dir, "images": "images", "solutions": "labels.csv"}
    data = set_up_data(GalaxyZoo(**options, target="class", target_columns=["odd_spiral"]))
    assert {name: len(part) for name, part in data.datasets.items()} == {
        "train": 4556,
        "val": 651,
        "test": 1300,
    }
    shares_of_ones = [part.labels.float().mean().item() for part in data.datasets.values()]
    assert all(math.isclose(share, 0.24, abs_tol=0.01) for share in shares_of_ones)
    data = set_up_data(
        GalaxyZoo(**options, target_columns=["axis_ratio", "petro_radius"], train_on="unlabeled")
    )
    assert len(data.datasets["train"]) == 5753 and len(data.datasets["bank"]) == 4556
    assert data.num_outputs == 2 and data.datasets["bank"].labels.isfinite().all()
