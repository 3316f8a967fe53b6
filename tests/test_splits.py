"""Which images make up which split: sizes, budgets of labels, groups of classes; and labels that are numbers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.protocol import Protocol
from callbacks.loggers.csv import CSVLogger
from datamodules.arrays import Arrays
from datamodules.cifar10 import CIFAR10
from datamodules.digits import Digits
from datamodules.storage.stratified import stratified_split
from ssl_modules.classifier import Classifier
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR
from tests.conftest import random_split, write_random
from tests.data_modules import CROP, make_galaxies, set_up_data, setup_error
from tests.methods import train

ROOT = Path(__file__).parent.parent


def tiny_data(data_dir, **options):
    """96 training and 32 test images of circle, line, square and star."""
    return Arrays("tiny", data_dir=data_dir, **options)


def row_set(data, split="train") -> set[int]:
    return set(data.datasets[split].rows.tolist())


def count_labels(data, split="train") -> list[int]:
    return torch.bincount(data.datasets[split].labels).tolist()


# --- sizes


@pytest.mark.parametrize("size, expected", [(8, [2, 2, 2, 2]), (10, [3, 3, 2, 2]), (1, [1, 0, 0, 0])])
def test_a_whole_val_size_counts_images_evenly_over_classes(data_dir, size, expected):
    data = set_up_data(tiny_data(data_dir, val_size=size))
    assert np.bincount(data.datasets["val"].labels, minlength=4).tolist() == expected
    assert not row_set(data) & row_set(data, "val") and len(row_set(data) | row_set(data, "val")) == 96


@pytest.mark.parametrize("sizes", [(0.1, 0.2, 0.5), (3, 4, 5, 11, 12, 96), (0.0, 0.01, 0.9)])
def test_a_smaller_held_out_part_is_in_every_larger_one(sizes):
    labels = np.random.default_rng(0).permutation(np.arange(96) % 4)
    held_out = [set(stratified_split(labels, size, seed=3)[1]) for size in sizes]
    assert all(small <= large for small, large in pairwise(held_out))
    assert all(len(rows) == size for rows, size in zip(held_out, sizes, strict=True) if size >= 1)


def test_images_of_unknown_class_are_no_class_that_counts():
    labels = np.array([-1] * 50 + [0] * 10 + [1] * 10)
    assert sorted(labels[stratified_split(labels, 6, seed=0)[1]]) == [0, 0, 0, 1, 1, 1]
    assert (labels[stratified_split(labels, 0.1, seed=0)[1]] == -1).sum() == 5


# --- a budget of labels


def test_a_budget_cuts_the_training_split_and_no_other(data_dir):
    full = set_up_data(tiny_data(data_dir))
    for budget, left in (({"fraction": 0.5}, [11] * 4), ({"labels_per_class": 3}, [3] * 4)):
        data = set_up_data(tiny_data(data_dir, **budget))
        assert count_labels(data) == left and row_set(data) < row_set(full) and "bank" not in data.datasets
        assert row_set(data, "val") == row_set(full, "val") and row_set(data, "test") == row_set(full, "test")
        assert row_set(set_up_data(tiny_data(data_dir, seed=5, **budget))) == row_set(data)
        assert row_set(set_up_data(tiny_data(data_dir, split_seed=5, **budget))) != row_set(data)


@pytest.mark.parametrize("option, budgets", [
    ("fraction", (0.1, 0.2, 0.5, 1.0)), ("labels_per_class", (1, 2, 5, 22))
])  # fmt: skip
def test_the_smaller_budget_is_part_of_the_larger(data_dir, option, budgets):
    row_sets = [row_set(set_up_data(tiny_data(data_dir, **{option: budget}))) for budget in budgets]
    assert all(small < large for small, large in pairwise(row_sets))


def test_a_budget_cuts_the_bank_of_unlabeled_training(tmp_path):
    write_random(tmp_path / "tiny", unlabeled=40)
    data = set_up_data(tiny_data(tmp_path, train_on="unlabeled", labels_per_class=2))
    assert count_labels(data, "bank") == [2] * 4 and len(data.datasets["train"]) == 40
    assert row_set(data, "bank") == row_set(set_up_data(tiny_data(tmp_path, labels_per_class=2)))


def test_galaxies_without_labels_are_all_that_are_not_validated(tmp_path):
    data = set_up_data(make_galaxies(tmp_path, train_on="unlabeled", fraction=0.5))
    assert not row_set(data) & (row_set(data, "val") | row_set(data, "test"))
    assert len(row_set(data)) == 32 and row_set(data, "bank") < row_set(data)
    assert 14 <= len(row_set(data, "bank")) <= 18


def test_images_without_labels_can_be_cut_to_a_fraction(own_dir):
    (own_dir / "tiny" / "train_labels.npy").unlink()
    assert len(set_up_data(tiny_data(own_dir, fraction=0.5)).datasets["train"]) == 43  # of 96 less 10


def test_validation_rows_are_left_out_of_unlabeled_training(data_dir):
    files = {"unlabeled_images": "train_images.npy"}
    data = set_up_data(tiny_data(data_dir, files=files, train_on="unlabeled", labels_per_class=2))
    assert row_set(data) == set(range(96)) - row_set(data, "val") and len(row_set(data, "bank")) == 8


# --- groups

SHAPES = {"round": ["circle"], "straight": ["square", "star"]}


def test_classes_become_groups_and_the_others_are_left_out(data_dir):
    full = set_up_data(tiny_data(data_dir))
    data = tiny_data(data_dir, groups=SHAPES)
    assert data.num_classes == 2  # before anything is read: a model may need it
    set_up_data(data)
    assert data.class_names == ["round", "straight"] and data.num_classes == data.num_outputs == 2
    for split in ("train", "val", "test"):
        group_of = {0: 0, 2: 1, 3: 1}
        labels = dict(
            zip(full.datasets[split].rows.tolist(), full.datasets[split].labels.tolist(), strict=True)
        )
        if split == "test":
            assert row_set(data, split) == {row for row, label in labels.items() if label in group_of}
        for row, label in zip(data.datasets[split].rows, data.datasets[split].labels.tolist(), strict=True):
            stored = np.load(data_dir / "tiny" / f"{'test' if split == 'test' else 'train'}_labels.npy")[row]
            assert label == group_of[stored]
    assert count_labels(data, "test") == [8, 16]
    data.prepare_data()  # as before a final test
    data.setup("test")


def test_sizes_and_budgets_are_of_groups(data_dir):
    data = set_up_data(tiny_data(data_dir, groups=SHAPES, val_size=6, labels_per_class=20))
    assert count_labels(data, "val") == [3, 3] and count_labels(data) == [20, 20]


def test_unknown_labels_are_in_no_group_and_unlabeled_images_stay(tmp_path):
    write_random(tmp_path / "tiny", unlabeled=40)
    path = tmp_path / "tiny" / "train_labels.npy"
    np.save(path, np.where(np.arange(96) < 50, -1, np.load(path)))
    data = set_up_data(tiny_data(tmp_path, groups=SHAPES, train_on="unlabeled"))
    assert min(row_set(data, "bank") | row_set(data, "val")) >= 50 and len(data.datasets["train"]) == 40


def test_classes_that_are_called_by_numbers(tmp_path):
    data = set_up_data(Digits(data_dir=tmp_path, groups={"low": [0, 1], "high": ["8", 9]}))
    assert data.class_names == ["low", "high"] and set(data.datasets["val"].labels.tolist()) == {0, 1}


def test_galaxies_in_groups(tmp_path):
    data = make_galaxies(tmp_path, groups={"galaxy": ["disk", "smooth"], "other": ["star or artifact"]})
    assert data.num_classes == 2
    set_up_data(data)
    assert data.class_names == ["galaxy", "other"] and sum(len(part) for part in data.datasets.values()) == 40


@pytest.mark.parametrize("options, says", [
    ({"val_size": 97}, "val_size asks for 25 images of class 0, and 24 are there"),
    ({"labels_per_class": 2, "fraction": 0.5}, "no fraction beside"),
    ({"labels_per_class": 23}, "labels_per_class asks for 23 images of class 0, and 22 are there"),
    ({"groups": {"round": ["circel"]}}, "round: there is no class 'circel'; the nearest one is 'circle'"),
    ({"groups": {"round": ["xyz"]}}, "there are circle, line, square, star"),
    ({"groups": {"round": ["circle"], "all": ["line", "circle"]}}, "class 'circle' is named twice"),
    ({"groups": {"round": []}}, "round is empty"),
])  # fmt: skip
def test_sizes_budgets_and_groups_that_make_no_sense_are_refused(data_dir, options, says):
    assert says in setup_error(tiny_data(data_dir, **options))


def test_groups_need_classes_and_training_images(own_dir):
    path = own_dir / "tiny" / "train_labels.npy"
    np.save(path, np.ones(96, np.int64))
    assert "no training image is of round" in setup_error(tiny_data(own_dir, groups={"round": ["circle"]}))
    (own_dir / "tiny" / "classes.txt").unlink()
    for split, count in (("train", 96), ("test", 32)):
        np.save(own_dir / "tiny" / f"{split}_labels.npy", np.zeros((count, 2), np.float32))
    assert "labels are no classes" in setup_error(tiny_data(own_dir, groups={"round": ["circle"]}))


@pytest.mark.parametrize("config", ["conv_autoencoder_animals", "residual_autoencoder_animals"])
def test_two_kinds_of_images_from_a_config_alone(config, tmp_path):
    options = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text())["data"]["init_args"]
    write_random(tmp_path / "cifar10", train=50_000, test=100, classes=CIFAR10.class_names, size=3)
    data = set_up_data(CIFAR10(data_dir=tmp_path, **options | {"views": None}))
    assert count_labels(data) == [4250, 4250] and count_labels(data, "val") == [250, 250]
    assert data.class_names == ["animals", "vehicles"] and count_labels(data, "test") == [60, 40]


# --- without validation


@pytest.mark.parametrize("views, make", [
    (2, lambda: SimCLR(encoder=small_encoder(), hidden_dim=8, out_dim=8, optimizer=torch.optim.AdamW)),
    (1, lambda: Classifier(encoder=small_encoder(), optimizer=torch.optim.AdamW)),
    (1, lambda: Classifier(encoder=small_encoder(), optimizer=torch.optim.AdamW, frozen=True)),
])  # fmt: skip
def test_without_validation_images_training_and_test_go_on(views, make, data_dir, tmp_path, caplog, capsys):
    module = make()
    protocol = Protocol(k=3, few=2, draws=1)
    callbacks = [Features(), OnlineProbe(), KNN(k=3, every_n_epochs=1), protocol]
    data = tiny_data(data_dir, val_size=0, batch_size=16, views=[CROP] * views)
    with caplog.at_level("INFO"):
        trainer = train(
            module, data, tmp_path, callbacks=callbacks, logger=CSVLogger(str(tmp_path)), max_epochs=2
        )
    output = caplog.text + capsys.readouterr().err
    assert output.count("val_size 0: no validation images, their numbers are skipped") in (
        1,
        2,
    )  # log and stderr
    assert "val" not in data.datasets and len(data.datasets["train"]) == 96 and not protocol.numbers
    trainer.test(module, data, verbose=False)
    assert "test/probe_top1" in protocol.numbers and "untrained/test/knn3_top1" in protocol.numbers
    assert not [name for name in protocol.numbers if "val/" in name]


def small_encoder():
    return ResNet(widths=[8, 16], blocks=[1, 1])


def test_labels_for_validation_alone(own_dir, tmp_path, caplog):
    """Training images without labels, validation images with: callbacks that need a labeled bank skip."""
    folder = own_dir / "tiny"
    (folder / "train_labels.npy").unlink()
    (folder / "classes.txt").unlink()
    images, labels = random_split(20, classes=2, seed=9)
    np.save(folder / "val_images.npy", images)
    np.save(folder / "val_labels.npy", labels)
    np.save(folder / "test_labels.npy", np.arange(32) % 2)
    data = tiny_data(own_dir, batch_size=16, views=[CROP] * 2)
    module = SimCLR(encoder=small_encoder(), hidden_dim=8, out_dim=8, optimizer=torch.optim.AdamW)
    callbacks = [Features(), OnlineProbe(), KNN(k=3, every_n_epochs=1), Protocol(k=3, few=2, draws=1)]
    with caplog.at_level("INFO"):
        train(module, data, tmp_path, callbacks=callbacks)
    assert data.num_classes == 2 and (data.datasets["train"].labels == -1).all()
    assert "the protocol's numbers on val are skipped" in caplog.text


# --- labels that are numbers


@pytest.fixture
def number_data(own_dir):
    """The tiny images with the mean of red, green and blue as labels, some unknown."""
    folder = own_dir / "tiny"
    (folder / "classes.txt").unlink()
    for split in ("train", "test"):
        labels = np.load(folder / f"{split}_images.npy").mean((1, 2)) / 255
        labels[0], labels[1, 0] = np.nan, np.nan
        np.save(folder / f"{split}_labels.npy", labels.astype(np.float32 if split == "train" else np.float64))
    (folder / "targets.txt").write_text("red\ngreen\nblue")
    return own_dir


def test_numbers_are_read_and_named(number_data):
    data = set_up_data(tiny_data(number_data))
    assert data.num_classes is None and data.class_names is None and data.num_outputs == 3
    assert data.target_names == ["red", "green", "blue"]
    sizes = {name: len(split) for name, split in data.datasets.items()}
    assert sizes == {"train": 86, "val": 10, "test": 32}
    for name, split in data.datasets.items():
        stored = np.load(number_data / "tiny" / f"{'test' if name == 'test' else 'train'}_labels.npy")
        assert split.labels.dtype == torch.float32
        np.testing.assert_array_equal(split.labels, stored[split.rows].astype(np.float32))
    (number_data / "tiny" / "targets.txt").unlink()
    assert set_up_data(tiny_data(number_data)).target_names == ["0", "1", "2"]


def test_galaxies_name_their_numbers(tmp_path):
    data = make_galaxies(tmp_path)
    assert data.target_names is None and data.class_names[0] == "smooth"
    data = set_up_data(type(data)(data_dir=tmp_path, stored=16))
    assert data.target_names[:2] == ["Class1.1", "Class1.2"] and data.num_outputs == 37


def test_a_fraction_of_numbers_and_no_number_a_class(number_data):
    assert len(set_up_data(tiny_data(number_data, fraction=0.5)).datasets["train"]) == 43
    assert "labels_per_class: 2 needs training images with classes" in setup_error(
        tiny_data(number_data, labels_per_class=2)
    )


@pytest.mark.parametrize("target", ["regression", "fractions"])
def test_a_classifier_learns_numbers_from_arrays(number_data, tmp_path, target):
    torch.manual_seed(0)
    module = Classifier(encoder=small_encoder(), optimizer=torch.optim.AdamW, target=target)
    data = tiny_data(number_data, batch_size=16)
    trainer = train(module, data, tmp_path, max_epochs=1)
    before = float(trainer.callback_metrics["val/loss"])
    trainer = train(module, data, tmp_path, max_epochs=10)
    assert module.head.out_features == 3 and float(trainer.callback_metrics["val/loss"]) < before


WRONG_NUMBERS = {  # the file and what it holds instead: what the message must say
    "infinite": ("test_labels", np.full((32, 3), np.inf), "label inf in row 0 (96 such"),
    "beyond float32": ("test_labels", np.full((32, 3), 1e300), "label inf in row 0 (96 such"),
    "one column too few": ("test_labels", np.zeros((32, 2)), "2 numbers an image, expected 3"),
    "no columns": ("test_labels", np.zeros((32, 0)), "float64 (32, 0)"),
    "a vector": ("test_labels", np.zeros(32), "float64 (32,)"),
    "classes": ("test_labels", np.zeros(32, int), "labels are classes, expected are 3 numbers"),
    "a name too few": ("targets", "red\ngreen\n", "3 numbers an image, expected 2: a line of"),
    "a name twice": ("targets", "red\ngreen\nred\n", "targets.txt, line 3: 'red' is there twice"),
    "an empty name": ("targets", "red\n\nblue\n", "targets.txt, line 2: there is no name"),
    "classes.txt": ("classes", "a\nb\n", "labels are numbers (96, 3), expected are 2 classes"),
}


@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
def test_wrong_numbers_are_refused_with_the_file(number_data, wrong):
    file, instead, says = WRONG_NUMBERS[wrong]
    if isinstance(instead, str):
        (number_data / "tiny" / f"{file}.txt").write_text(instead)
    else:
        np.save(number_data / "tiny" / f"{file}.npy", instead)
    text = setup_error(tiny_data(number_data))
    assert says in text and str(number_data / "tiny") in text


def test_a_data_set_of_classes_takes_no_numbers(tmp_path):
    write_random(tmp_path / "cifar10", train=100, test=20, classes=CIFAR10.class_names, size=32)
    np.save(tmp_path / "cifar10" / "train_labels.npy", np.zeros((100, 2)))
    assert "labels are numbers (100, 2), expected are 10 classes" in setup_error(CIFAR10(data_dir=tmp_path))
