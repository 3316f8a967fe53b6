"""Files of arrays: where they come from, and what a wrong or damaged one leads to."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from datamodules.arrays import Arrays
from datamodules.cifar10 import CIFAR10
from datamodules.galaxy_zoo import GalaxyZoo
from datamodules.image_folder import ImageFolder
from tests.conftest import random_split, write_random
from tests.data_modules import set_up_data, setup_error

# --- where files come from


def test_class_names_come_from_classes_txt(data_dir, own_dir):
    assert set_up_data(Arrays("tiny", data_dir=data_dir)).class_names == ["circle", "line", "square", "star"]
    (own_dir / "tiny" / "classes.txt").unlink()
    data = set_up_data(Arrays("tiny", data_dir=own_dir))
    assert data.class_names == ["0", "1", "2", "3"] and data.num_classes == 4


def test_unknown_labels_stay_minus_one_and_are_no_class(own_dir):
    path = own_dir / "tiny" / "train_labels.npy"
    labels = np.load(path)
    labels[:40] = -1
    np.save(path, labels)
    data = set_up_data(Arrays("tiny", data_dir=own_dir))
    labels = torch.cat([data.datasets[name].labels for name in ("train", "val")])
    assert (labels == -1).sum() == 40 and data.num_classes == 4


def test_a_data_set_on_disk_is_not_downloaded_again(tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise AssertionError("there was no need to download")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    write_random(tmp_path / "cifar10", train=100, test=40, classes=CIFAR10.class_names, size=32)
    assert len(set_up_data(CIFAR10(data_dir=tmp_path)).datasets["test"]) == 40


def test_a_download_is_packed_into_the_array_layout_once(tmp_path, monkeypatch):
    calls = []

    def download(root, train, download):
        calls.append(train)
        images, labels = random_split(60 if train else 20, size=32, classes=10, seed=int(train))
        return SimpleNamespace(data=images, targets=labels.tolist())

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    for _ in range(2):
        data = set_up_data(CIFAR10(data_dir=tmp_path))
        assert len(data.datasets["train"]) + len(data.datasets["val"]) == 60
        assert data.class_names[0] == "airplane"
    assert sorted(calls) == [False, True]
    images, labels = random_split(20, size=32, classes=10, seed=0)
    assert np.array_equal(np.load(tmp_path / "cifar10" / "test_images.npy"), images)
    assert np.array_equal(np.load(tmp_path / "cifar10" / "test_labels.npy"), labels)
    assert not list((tmp_path / "cifar10").glob(".part*"))


# --- errors: one line, what was found where


def test_a_missing_data_set_says_its_place_and_how_to_get_it(tmp_path):
    text = setup_error(Arrays("mine", data_dir=tmp_path))
    assert str(tmp_path / "mine" / "train_images.npy") in text
    assert "README" in text and "data_dir" in text


def test_a_download_that_fails_says_where_it_was_looked_for(tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    text = setup_error(CIFAR10(data_dir=tmp_path))
    assert str(tmp_path / "cifar10") in text and "data_dir" in text


IMAGES = random_split(96)[0]
LABELS = random_split(96)[1]
WRONG = {  # what a file holds instead: (kind, array, what the message must say)
    "float images": ("images", IMAGES / np.float32(255), "float32"),
    "flat images": ("images", IMAGES.reshape(96, -1), r"\(96, 768\)"),
    "no images": ("images", IMAGES[:0], r"\(0, 16, 16, 3\)"),
    "channels first": ("images", IMAGES.transpose(0, 3, 1, 2), r"\(96, 3, 16, 16\).*channels last"),
    "float labels": ("labels", LABELS.astype(np.float64), "float64"),
    "one-hot labels": ("labels", np.eye(4, dtype=np.int64)[LABELS], r"\(96, 4\)"),
    "too few labels": ("labels", LABELS[:90], "90 labels for 96 images"),
    "a label too high": ("labels", np.where(np.arange(96) == 5, 4, LABELS), r"label 4 in row 5 .*0 \.\.\. 3"),
    "a label too low": ("labels", np.where(np.arange(96) == 6, -2, LABELS), r"label -2 in row 6 "),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("split", ["train", "val"])
def test_wrong_arrays_are_refused_with_the_file_and_what_was_found(own_dir, wrong, split):
    kind, array, says = WRONG[wrong]
    folder = own_dir / "tiny"
    np.save(folder / f"{split}_images.npy", IMAGES)
    np.save(folder / f"{split}_labels.npy", LABELS)
    path = folder / f"{split}_{kind}.npy"
    np.save(path, array)
    text = setup_error(Arrays("tiny", data_dir=own_dir))
    assert str(path) in text and re.search(says, text), text


def test_without_classes_txt_a_class_new_to_training_is_refused(own_dir):
    (own_dir / "tiny" / "classes.txt").unlink()
    path = own_dir / "tiny" / "test_labels.npy"
    np.save(path, np.full(32, 11))
    assert str(path) in setup_error(Arrays("tiny", data_dir=own_dir))


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("damage", ["pickled", "truncated", "empty", "text", "archive", "broken archive"])
def test_files_that_are_no_plain_array_are_refused_by_name(own_dir, kind, damage):
    path = own_dir / "tiny" / f"train_{kind}.npy"
    if damage == "pickled":
        np.save(path, np.array([{"a": 1}] * 96, dtype=object), allow_pickle=True)
    elif damage == "archive":
        with open(path, "wb") as file:
            np.savez(file, images=IMAGES)
    else:
        content = path.read_bytes()
        broken = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"a,b\n1,2\n"}
        path.write_bytes(broken.get(damage, b"PK\x03\x04" + bytes(20)))
    assert str(path) in setup_error(Arrays("tiny", data_dir=own_dir))


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_file_that_may_not_be_read_is_told(data_dir, monkeypatch, kind):
    path, open_memmap = data_dir / "tiny" / f"train_{kind}.npy", np.lib.format.open_memmap

    def refused(asked, *args, **more):
        if asked == path:
            raise PermissionError(13, "Permission denied", str(path))
        return open_memmap(asked, *args, **more)

    monkeypatch.setattr(np.lib.format, "open_memmap", refused)
    text = setup_error(Arrays("tiny", data_dir=data_dir))
    assert f"{path}: Permission denied" in text and "data_dir" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
@pytest.mark.parametrize("make", [Arrays, ImageFolder, CIFAR10, GalaxyZoo])
def test_a_folder_that_may_not_be_entered_is_told(tmp_path, make):
    (tmp_path / "closed").mkdir(mode=0)
    options = {} if make in (CIFAR10, GalaxyZoo) else {"name": "mine"}
    assert "Permission denied" in setup_error(make(data_dir=tmp_path / "closed", **options))


def test_splits_of_different_shapes_are_refused(own_dir):
    images, labels = random_split(20, channels=1)
    np.save(own_dir / "tiny" / "val_images.npy", images)
    np.save(own_dir / "tiny" / "val_labels.npy", labels)
    assert str(own_dir / "tiny" / "val_images.npy") in setup_error(Arrays("tiny", data_dir=own_dir))


@pytest.mark.parametrize("options, says", [
    ({"files": {"val_images": "valX.npy"}}, "valX.npy"),
    ({"files": {"training_images": "x.npy"}}, "training_images"),
    ({"mean": [0.5, 0.5]}, "3 channels"),
    ({"std": [1.0, 1.0]}, "3 channels"),
    ({"mean": [0.1] * 4, "std": [1.0] * 4}, "3 channels"),
])  # fmt: skip
def test_options_that_do_not_fit_the_files_are_refused(data_dir, options, says):
    assert says in setup_error(Arrays("tiny", data_dir=data_dir, **options))
