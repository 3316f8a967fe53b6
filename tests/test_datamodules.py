"""What every data module promises, one table for all; and what a bad file leads to."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.batch import BatchKey
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.cifar10 import CIFAR10
from datamodules.digits import Digits
from datamodules.galaxy_zoo import GalaxyZoo
from datamodules.image_folder import ImageFolder
from datamodules.mnist import MNIST
from datamodules.stl10 import STL10
from datamodules.storage.splits import stratified_split
from tests.conftest import random_split, write_random
from tests.folders import write_folders
from tests.galaxies import write_galaxies

CROP = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33))
CPU = torch.device("cpu")


def make_digits(folder, **options):
    return Digits(data_dir=folder, **options)


def make_cifar10(folder, **options):
    write_random(folder / "cifar10", train=100, test=40, classes=CIFAR10.class_names, size=32)
    return CIFAR10(data_dir=folder, **options)


def make_mnist(folder, **options):
    write_random(folder / "mnist", train=100, test=40, classes=MNIST.class_names, size=28, channels=1)
    return MNIST(data_dir=folder, **({"size": 28} | options))


def make_stl10(folder, **options):
    write_random(folder / "stl10", train=100, test=40, classes=STL10.class_names, size=96)
    return STL10(data_dir=folder, train_on="labeled", **options)


def make_galaxies(folder, **options):
    write_galaxies(folder / "galaxyzoo")
    return GalaxyZoo(data_dir=folder, stored=16, target="question 1", **options)


def make_arrays(folder, **options):
    write_random(folder / "mine")
    return Arrays("mine", data_dir=folder, **options)


def make_explicit_files(folder, **options):
    """Files that are called otherwise, one of them elsewhere; no test split, images with one channel."""
    (folder / "course").mkdir(parents=True)
    names = {
        "train_images": folder / "course" / "trainX.npy",
        "train_labels": folder / "course" / "trainY.npy",
        "val_images": folder / "valX.npy",
        "val_labels": folder / "course" / "valY.npy",
    }
    for seed, split in enumerate(("train", "val")):
        images, labels = random_split(60 - 20 * seed, channels=1, seed=seed)
        np.save(names[f"{split}_images"], images[..., 0])  # (N, H, W)
        np.save(names[f"{split}_labels"], labels.astype(np.uint8))
    files = {kind: path.name for kind, path in names.items()} | {"val_images": str(names["val_images"])}
    return Arrays("course", data_dir=folder, files=files, **options)


def make_image_folder(folder, **options):
    write_folders(folder / "pictures")
    return ImageFolder("pictures", data_dir=folder, size=16, **options)


def make_unlabeled(folder, **options):
    (folder / "plain").mkdir(parents=True)
    np.save(folder / "plain" / "train_images.npy", random_split(50)[0])
    return Arrays("plain", data_dir=folder, **options)


DATA_SETS = {  # one line a data set: (how to make it small, classes, channels, side, rows of train, val and test)
    "Digits": (make_digits, 10, 1, 8, (1295, 143, 359)),
    "CIFAR10": (make_cifar10, 10, 3, 32, (90, 10, 40)),
    "MNIST": (make_mnist, 10, 1, 28, (90, 10, 40)),
    "STL10": (make_stl10, 10, 3, 96, (90, 10, 40)),
    "GalaxyZoo": (make_galaxies, 3, 3, 16, (32, 4, 4)),
    "ImageFolder": (make_image_folder, 3, 3, 16, (21, 3, 0)),
    "Arrays": (make_arrays, 4, 3, 16, (88, 8, 32)),
    "Arrays, files": (make_explicit_files, 4, 1, 16, (60, 40, 0)),
    "Arrays, no labels": (make_unlabeled, None, 3, 16, (45, 5, 0)),
}


@pytest.fixture(params=DATA_SETS)
def data_set(request):
    return DATA_SETS[request.param]


def set_up_data(data, training=False, rank=0, world=1):
    """Set a data module up as a Trainer does."""
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        training=training,
        current_epoch=0,
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0)))
        ),
    )
    data.prepare_data()
    data.setup("fit")
    return data


def transfer_batch(data, stored):
    return data.transfer_batch_to_device(stored, CPU, 0)


# --- the handshakes


@pytest.mark.parametrize("recipes", [1, 2, 3])
def test_a_training_batch_has_a_view_a_recipe(data_set, tmp_path, recipes):
    make, classes, channels, side, _ = data_set
    data = set_up_data(make(tmp_path, views=[CROP] * recipes, batch_size=10), training=True)
    views, labels, index, key = transfer_batch(data, next(iter(data.train_dataloader())))
    assert isinstance(views, list) and len(views) == recipes
    for view in views:
        assert (
            view.dtype == torch.float32 and view.shape == (10, channels, side, side) and view.isfinite().all()
        )
    assert all(not torch.equal(views[0], other) for other in views[1:])
    assert labels.dtype == index.dtype == torch.int64 and labels.shape == index.shape == (10,)
    assert key.rows == 10 and key.split == "train"
    assert (
        labels.min() >= 0 and labels.max() < classes
        if classes
        else torch.equal(labels, torch.full((10,), -1))
    )


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "bank_dataloader"])
def test_elsewhere_there_is_one_view_without_augmentation(data_set, tmp_path, loader):
    make, *_, (train, val, test) = data_set
    data = set_up_data(make(tmp_path, views=[CROP, CROP], batch_size=16))
    rows = {"val_dataloader": val, "bank_dataloader": train}.get(loader, test)
    batches = list(getattr(data, loader)())
    assert torch.cat([batch[2] for batch in batches] or [torch.empty(0)]).tolist() == list(range(rows))
    for images, *rest in batches:
        views, labels, index, key = transfer_batch(data, (images, *rest))
        assert len(views) == 1
        mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
        torch.testing.assert_close(views[0] * std + mean, images.permute(0, 3, 1, 2) / 255)
        assert torch.equal(labels, rest[0]) and torch.equal(index, rest[1]) and key == rest[2]


def test_splits_are_as_large_as_they_should_be(data_set, tmp_path):
    make, classes, channels, side, (train, val, test) = data_set
    data = set_up_data(make(tmp_path))
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": train, "val": val} | (
        {"test": test} if test else {}
    )
    assert data.num_classes == data.num_outputs == classes
    assert data.datasets["train"].images.shape[1:] == (side, side, channels)
    assert classes is None or len(data.class_names) == classes


@pytest.mark.parametrize("training", [True, False])
def test_the_index_gives_the_image_back(data_set, tmp_path, training):
    data = set_up_data(data_set[0](tmp_path, batch_size=12), training)
    split = "train" if training else "val"
    loader = data.train_dataloader() if training else data.val_dataloader()
    for images, labels, index, _ in loader:
        again = data.datasets[split].__getitems__(index.numpy())
        for one, other in zip((images, labels, index), again, strict=True):
            assert torch.equal(one, other)


def test_display_is_the_inverse_of_normalization(data_set, tmp_path):
    data = set_up_data(data_set[0](tmp_path, batch_size=16))
    stored = next(iter(data.bank_dataloader()))
    (view, *_), *_ = transfer_batch(data, stored)
    displayed = data.display(view)
    assert displayed.dtype == torch.uint8 and displayed.shape == stored[0].shape
    assert (displayed.int() - stored[0].int()).abs().max() <= 1


@pytest.mark.parametrize("mean, std", [([0.0], [1.0]), ([0.5], [0.5]), ([0.2, 0.4, 0.6], [0.1, 0.2, 0.3])])
def test_mean_and_std_are_options(data_dir, mean, std):
    data = set_up_data(Arrays("tiny", data_dir=data_dir, mean=mean, std=std))
    stored = next(iter(data.val_dataloader()))
    (view, *_), *_ = transfer_batch(data, stored)
    mean, std = (torch.tensor(v).expand(3)[:, None, None] for v in (mean, std))
    torch.testing.assert_close(view, (stored[0].permute(0, 3, 1, 2) / 255 - mean) / std)
    assert (data.display(view).int() - stored[0].int()).abs().max() <= 1


def test_display_clips_what_no_screen_can_show(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir))
    assert data.display(torch.full((1, 3, 2, 2), 9.0)).min() == 255
    assert data.display(torch.full((1, 3, 2, 2), -9.0)).max() == 0


@pytest.mark.parametrize("size", [8, 24])
def test_size_is_the_side_of_every_view(data_dir, size):
    data = set_up_data(
        Arrays("tiny", data_dir=data_dir, size=size, views=[CROP], batch_size=8), training=True
    )
    for loader in (data.train_dataloader(), data.val_dataloader()):
        (view, *_), *_ = transfer_batch(data, next(iter(loader)))
        assert view.shape[1:] == (3, size, size)


def test_the_bank_is_the_training_split_in_order_each_time_the_same(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir, views=[CROP], batch_size=16), training=True)
    first, second = list(data.bank_dataloader()), list(data.bank_dataloader())
    assert torch.cat([batch[2] for batch in first]).tolist() == list(range(88))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
    (a,), *_ = data.prepare_batch(first[0], CPU, augment=False)
    (b,), *_ = data.prepare_batch(second[0], CPU, augment=False)
    assert torch.equal(a, b)


def test_augmentation_is_a_function_of_the_key(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir, views=[CROP], batch_size=16), training=True)
    *rows, _ = next(iter(data.train_dataloader()))
    torch.manual_seed(0)
    (first,), *_ = data.prepare_batch((*rows, BatchKey.single(5, len(rows[-1]))), CPU, augment=True)
    state = torch.get_rng_state()
    (again,), *_ = data.prepare_batch((*rows, BatchKey.single(5, len(rows[-1]))), CPU, augment=True)
    (other,), *_ = data.prepare_batch((*rows, BatchKey.single(6, len(rows[-1]))), CPU, augment=True)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# --- splits


def test_a_stratified_split_is_disjoint_complete_and_by_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 50, 10]))
    rows, held_out = stratified_split(labels, 0.2, seed=0)
    assert sorted([*rows, *held_out]) == list(range(160))
    assert (np.diff(rows) > 0).all() and (np.diff(held_out) > 0).all()
    assert np.bincount(labels[held_out]).tolist() == [20, 10, 2]


def test_a_stratified_split_depends_on_its_seed_alone():
    labels = np.arange(200) % 4
    np.random.seed(0)
    first = stratified_split(labels, 0.1, seed=0)[1]
    np.random.seed(1)
    assert np.array_equal(first, stratified_split(labels, 0.1, seed=0)[1])
    assert not np.array_equal(first, stratified_split(labels, 0.1, seed=1)[1])


def rows_by_split(data):
    return {name: split.rows.tolist() for name, split in data.datasets.items()}


def test_the_split_is_fixed_by_split_seed_and_not_by_the_runs_seed(data_dir):
    base = rows_by_split(set_up_data(Arrays("tiny", data_dir=data_dir)))
    assert rows_by_split(set_up_data(Arrays("tiny", data_dir=data_dir, seed=7))) == base
    other = rows_by_split(set_up_data(Arrays("tiny", data_dir=data_dir, split_seed=7)))
    assert other["val"] != base["val"] and other["test"] == base["test"]
    assert not set(base["train"]) & set(base["val"])


def test_val_size_is_the_share_of_each_class(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir, val_size=0.25))
    labels = data.datasets["val"].labels
    assert torch.bincount(labels).tolist() == [6, 6, 6, 6] and len(data.datasets["train"]) == 72


def test_a_val_file_is_used_and_nothing_is_held_out(own_dir):
    images, labels = random_split(20, seed=9)
    np.save(own_dir / "tiny" / "val_images.npy", images)
    np.save(own_dir / "tiny" / "val_labels.npy", labels)
    data = set_up_data(Arrays("tiny", data_dir=own_dir))
    assert len(data.datasets["train"]) == 96
    stored = next(iter(data.val_dataloader()))
    assert np.array_equal(stored[0].numpy(), images) and stored[1].tolist() == labels.tolist()


def test_without_a_test_split_the_test_loader_is_empty(own_dir):
    (own_dir / "tiny" / "test_images.npy").unlink()
    data = set_up_data(Arrays("tiny", data_dir=own_dir))
    assert list(data.test_dataloader()) == [] and "test" not in data.datasets


def test_the_digits_test_split_is_the_same_for_all_seeds():
    stored = [
        next(iter(set_up_data(Digits(**seeds)).test_dataloader()))
        for seeds in ({}, {"seed": 3, "split_seed": 3})
    ]
    assert torch.equal(stored[0][0], stored[1][0]) and torch.equal(stored[0][1], stored[1][1])
    assert stored[0][0].max() == 255 and stored[0][0].min() == 0


def test_setting_up_twice_changes_nothing(data_dir):
    data = set_up_data(Arrays("tiny", data_dir=data_dir))
    before = data.datasets["train"]
    data.setup("test")
    assert data.datasets["train"] is before


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
    assert len(set_up_data(make_cifar10(tmp_path)).datasets["test"]) == 40


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


def setup_error(data):
    with pytest.raises(MisconfigurationException) as error:
        set_up_data(data)
    assert "\n" not in str(error.value)
    return str(error.value)


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


def test_files_that_are_named_and_not_there_are_refused(own_dir):
    files = {"val_images": "valX.npy"}
    assert "valX.npy" in setup_error(Arrays("tiny", data_dir=own_dir, files=files))


def test_names_of_files_that_no_split_has_are_refused(own_dir):
    assert "training_images" in setup_error(
        Arrays("tiny", data_dir=own_dir, files={"training_images": "x.npy"})
    )


@pytest.mark.parametrize(
    "options", [{"mean": [0.5, 0.5]}, {"std": [1.0, 1.0]}, {"mean": [0.1] * 4, "std": [1.0] * 4}]
)
def test_mean_and_std_must_fit_the_channels(data_dir, options):
    assert "3 channels" in setup_error(Arrays("tiny", data_dir=data_dir, **options))


def test_recipes_that_the_images_cannot_follow_are_refused(tmp_path):
    text = setup_error(Digits(data_dir=tmp_path, views=[Recipe(jitter=0.8, hue=0.1)]))
    assert "hue" in text and "channels" in text


def test_a_batch_larger_than_the_training_split_is_refused(data_dir):
    with pytest.raises(MisconfigurationException, match="batch_size"):
        set_up_data(Arrays("tiny", data_dir=data_dir, batch_size=89), training=True).train_dataloader()


def test_mean_and_std_travel_in_the_checkpoint_and_must_match(data_dir):
    state = set_up_data(Arrays("tiny", data_dir=data_dir, mean=[0.0], std=[1.0])).state_dict()
    set_up_data(Arrays("tiny", data_dir=data_dir, mean=[0.0], std=[1.0])).load_state_dict(state)
    for options in ({}, {"mean": [0.0]}, {"std": [1.0]}, {"mean": [0.0] * 3, "std": [0.9, 1.0, 1.0]}):
        data = set_up_data(Arrays("tiny", data_dir=data_dir, **options))
        with pytest.raises(MisconfigurationException, match="mean") as error:
            data.load_state_dict(state)
        assert "\n" not in str(error.value) and "[0.0, 0.0, 0.0]" in str(error.value)


def test_raw_features_are_the_image_or_its_means(tmp_path):
    data, generator = Arrays("", data_dir=str(tmp_path)), torch.Generator().manual_seed(0)
    small, large = (torch.rand(2, 3, side, side, generator=generator) for side in (8, 64))
    assert torch.equal(data.compute_raw_features(small), small.flatten(1))
    torch.testing.assert_close(data.compute_raw_features(large)[0, 0], large[0, 0, :2, :2].mean())
