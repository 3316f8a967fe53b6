"""A folder of class folders as a data module."""

import shutil

import numpy as np
import pytest
import torch

from datamodules.arrays import Arrays
from datamodules.image_folder import ImageFolder
from datamodules.storage import image_files
from tests.conftest import command_line
from tests.data_modules import set_up_data, setup_error
from tests.folders import CLASSES, classes_of, write_folders, write_images


def folder_data(data_dir, **options):
    return ImageFolder("mine", data_dir=data_dir, **{"size": 16} | options)


def stored_split(data, split):
    images, labels, _ = data.datasets[split].__getitems__(np.arange(len(data.datasets[split])))
    return images.numpy(), labels


def assert_labels_are_what_is_seen(data):
    for split in data.datasets:
        images, labels = stored_split(data, split)
        if (labels >= 0).any():
            assert labels.tolist() == classes_of(images)


def test_class_folders_are_classes(tmp_path):
    write_folders(tmp_path / "mine")
    (tmp_path / "mine" / ".thumbnails").mkdir()
    (tmp_path / "mine" / "apple" / "notes.txt").write_text("no picture")
    data = folder_data(tmp_path)
    assert data.num_classes == 3 and data.class_names == list(CLASSES)  # before anything is decoded
    set_up_data(data)
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 21, "val": 3}
    assert data.datasets["train"].images.shape == (24, 16, 16, 3)
    assert_labels_are_what_is_seen(data)


def test_splits_are_folders_too_and_a_class_may_be_missing_in_one(tmp_path):
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        write_folders(tmp_path / "mine", count, under=split)
    shutil.rmtree(tmp_path / "mine" / "val" / "apple")
    data = set_up_data(folder_data(tmp_path))
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 15, "val": 4, "test": 9}
    assert set(stored_split(data, "val")[1].tolist()) == {1, 2}
    assert_labels_are_what_is_seen(data)
    shutil.rmtree(tmp_path / "mine" / "test")
    assert "test" not in set_up_data(folder_data(tmp_path)).datasets


@pytest.mark.parametrize("under", ["", "train"])
def test_unlabeled_images_are_a_stream_of_their_own(tmp_path, under):
    write_folders(tmp_path / "mine", under=under)
    write_images(tmp_path / "mine" / "unlabeled", (9, 9, 9), 7)
    assert set_up_data(folder_data(tmp_path)).class_names == list(CLASSES)
    assert not (tmp_path / "mine_16" / "unlabeled_images.npy").exists()
    data = set_up_data(folder_data(tmp_path, train_on="unlabeled"))
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 7, "bank": 21, "val": 3}
    images, labels = stored_split(data, "train")
    assert abs(images.astype(int) - 9).max() <= 2 and (labels == -1).all()


def test_decoded_arrays_need_the_folder_no_more(tmp_path, monkeypatch):
    write_folders(tmp_path / "mine")
    before = set_up_data(folder_data(tmp_path))
    monkeypatch.setattr(image_files, "decode_images", lambda *args: pytest.fail("it decodes again"))
    set_up_data(folder_data(tmp_path))
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    for data in (set_up_data(folder_data(tmp_path)), set_up_data(Arrays("mine_16", data_dir=tmp_path))):
        assert data.class_names == list(CLASSES)
        for split in ("train", "val"):
            for one, other in zip(stored_split(data, split), stored_split(before, split), strict=True):
                assert np.array_equal(one, other)


def test_another_size_is_another_folder_and_new_images_are_decoded(tmp_path):
    write_folders(tmp_path / "mine")
    assert set_up_data(folder_data(tmp_path)).datasets["train"].images.shape[1:] == (16, 16, 3)
    assert set_up_data(folder_data(tmp_path, size=8)).datasets["train"].images.shape[1:] == (8, 8, 3)
    write_images(tmp_path / "mine" / "aardvark", (0, 0, 0), 4)
    data = set_up_data(folder_data(tmp_path))
    assert data.class_names == ["aardvark", *CLASSES] and len(data.datasets["train"].images) == 28
    assert torch.bincount(torch.cat([stored_split(data, s)[1] for s in ("train", "val")])).tolist() == [
        4,
        8,
        8,
        8,
    ]


def test_labels_that_a_killed_process_did_not_write_are_written(tmp_path):
    write_folders(tmp_path / "mine")
    set_up_data(folder_data(tmp_path))
    (tmp_path / "mine_16" / "train_labels.npy").unlink()
    assert_labels_are_what_is_seen(set_up_data(folder_data(tmp_path)))


def test_groups_and_a_second_set_up(tmp_path):
    write_folders(tmp_path / "mine")
    data = folder_data(tmp_path, groups={"red": ["apple"], "cold": ["sky"]})
    assert data.num_classes == 2
    set_up_data(data)
    data.prepare_data()  # as before a final test
    assert (
        data.class_names == ["red", "cold"] and len(data.datasets["train"]) + len(data.datasets["val"]) == 16
    )


def test_a_corrupt_image_is_named_or_left_out(tmp_path, caplog, capsys):
    write_folders(tmp_path / "mine")
    bad = tmp_path / "mine" / "leaf" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    text = setup_error(folder_data(tmp_path))
    assert f"1 of 24 images cannot be decoded, the first is {bad} (" in text
    with caplog.at_level("INFO"):
        data = set_up_data(folder_data(tmp_path, on_bad_image="skip"))
    assert "1 of 24 images cannot be decoded" in caplog.text + capsys.readouterr().err
    assert len(data.datasets["train"].images) == 23
    assert_labels_are_what_is_seen(data)


def break_folder(root, what):
    write_folders(root, under="train" if "split" in what else "")
    if what == "no images in a class":
        (root / "empty").mkdir()
    elif what == "a split with a class that train has not":
        write_images(root / "val" / "appel", (0, 0, 0), 1)
    elif what == "a split without class folders":
        (root / "test").mkdir()
    elif what == "test and no train":
        write_folders(root, under="test")


@pytest.mark.parametrize("what, says", [
    ("no images in a class", "no JPGs or PNGs in {root}/empty"),
    ("a split with a class that train has not", "{root}/val/appel: train has no such class; the nearest class is 'app"),
    ("a split without class folders", "no class folders in {root}/test"),
    ("test and no train", "{root} has a folder test and none called train"),
])  # fmt: skip
def test_folders_that_make_no_sense_are_told(tmp_path, what, says):
    break_folder(tmp_path / "mine", what)
    assert says.format(root=tmp_path / "mine") in setup_error(folder_data(tmp_path))


def test_a_missing_folder_is_told(tmp_path):
    text = setup_error(folder_data(tmp_path))
    assert f"no data set at {tmp_path / 'mine'}: put a folder of JPGs or PNGs for each class there" in text
    (tmp_path / "mine").mkdir()
    assert f"no class folders in {tmp_path / 'mine'}" in setup_error(folder_data(tmp_path))
    write_folders(tmp_path / "mine")
    assert str(tmp_path / "mine" / "unlabeled") in setup_error(folder_data(tmp_path, train_on="unlabeled"))


@pytest.mark.usefixtures("untouched_process")
def test_a_run_on_a_folder_from_the_command_line(tmp_path):
    write_folders(tmp_path / "mine")
    words = f"""--model ssl_modules.classifier.Classifier --model.init_args.optimizer torch.optim.AdamW
        --model.init_args.encoder ssl_modules.networks.resnet.ResNet
        --model.init_args.encoder.init_args.widths [8,16] --model.init_args.encoder.init_args.blocks [1,1]
        --data datamodules.image_folder.ImageFolder --data.init_args.name mine --data.init_args.data_dir {tmp_path}
        --data.init_args.size 16 --data.init_args.batch_size 8 --data.init_args.on_bad_image skip
        --experiment folder --runs_dir {tmp_path}/runs --without [WandbLogger,Collapse]
        --trainer.max_epochs 1 --trainer.accelerator cpu"""
    assert command_line("fit", *words.split()) == 0
    assert (tmp_path / "runs" / "folder" / "version_0" / "report.html").is_file()
