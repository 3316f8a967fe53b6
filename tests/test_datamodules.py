"""What every data module promises, one table for all."""

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.batch import BatchKey
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.cifar10 import CIFAR10
from datamodules.digits import Digits
from datamodules.image_folder import ImageFolder
from datamodules.mnist import MNIST
from datamodules.stl10 import STL10
from datamodules.storage.stratified import stratified_split
from tests.conftest import random_split, write_random
from tests.data_modules import CPU, CROP, make_galaxies, set_up_data, setup_error, transfer_batch
from tests.errors import refused_in_one_line
from tests.folders import write_folders


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


# --- what cannot be


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
        with refused_in_one_line("mean") as error:
            data.load_state_dict(state)
        assert "[0.0, 0.0, 0.0]" in str(error.value)


def test_raw_features_are_the_image_or_its_means(tmp_path):
    data, generator = Arrays("", data_dir=str(tmp_path)), torch.Generator().manual_seed(0)
    small, large = (torch.rand(2, 3, side, side, generator=generator) for side in (8, 64))
    assert torch.equal(data.compute_raw_features(small), small.flatten(1))
    torch.testing.assert_close(data.compute_raw_features(large)[0, 0], large[0, 0, :2, :2].mean())
