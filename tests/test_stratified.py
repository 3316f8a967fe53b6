"""What is held out where classes are small, and that nothing changes where they are large."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from datamodules.arrays import Arrays
from datamodules.image_folder import ImageFolder
from datamodules.storage.stratified import apportion_rows, describe_held_out, stratified_split
from datamodules.tweets import Tweets
from tests.data_modules import set_up_data, setup_error
from tests.folders import write_folders
from tests.tweets import write_tweets

DATA = Path(__file__).parents[1] / "data"


def spread_labels(*counts: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(1).permutation(labels)


def split_as_before(labels, size, seed):
    """The rule that kept runs were split by: each class rounded by itself."""
    rng, held_out = np.random.default_rng(seed), []
    for k in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == k))
        held_out.append(order[: round(size * len(order))])
    return np.sort(np.concatenate(held_out))


# --- as before


@pytest.mark.parametrize(
    "name", ["cifar10", "mnist", "imagenette96", "digits", "galaxies", "tweets", "made up"]
)
@pytest.mark.parametrize("size", [0.1, 0.2, 0.01, 0.5])
def test_splits_of_large_classes_are_what_they_were(name, size):
    if name == "digits":
        labels = load_digits().target
    elif name == "galaxies":
        labels = np.zeros(7704)
    elif name == "made up":
        labels = spread_labels(400, 731, 55, 1234, 500)
    elif name == "tweets":
        path = DATA / "tweets" / "train.csv"
        if not path.is_file():
            pytest.skip(f"{path} is missing")
        labels = set_up_data(Tweets(data_dir=DATA)).datasets["train"].labels.numpy()
    else:
        path = DATA / name / "train_labels.npy"
        if not path.is_file():
            pytest.skip(f"{path} is missing")
        labels = np.load(path)
    for stay in (0, 1):
        held_out = stratified_split(labels, size, seed=0, stay=stay)[1]
        assert np.array_equal(held_out, split_as_before(labels, size, seed=0))


# --- small classes


@pytest.mark.parametrize("counts, size, expected", [
    ([400, 40, 4], 0.1, [40, 4, 1]),
    ([3] * 1000, 0.1, [1] * 1000),
    ([3, 2, 1], 0.1, [1, 1, 0]),  # one of each class that has two
    ([1, 1, 1], 0.5, [0, 0, 0]),
    ([2, 3, 1], 0.9, [1, 2, 0]),  # one of each class stays
    ([5] * 10, 0.1, [1] * 10),
    ([100, 2], 0.0, [0, 0]),
])  # fmt: skip
def test_each_class_that_has_two_is_on_both_sides(counts, size, expected):
    labels = spread_labels(*counts)
    rows, held_out = stratified_split(labels, size, seed=0, stay=1)
    assert np.bincount(labels[held_out], minlength=len(counts)).tolist() == expected
    assert sorted([*rows, *held_out]) == list(range(len(labels)))


@pytest.mark.parametrize("counts", [[14] * 100, [15] * 100, [16] * 40 + [14] * 80, [4] * 50 + [900] * 2])
@pytest.mark.parametrize("size", [0.1, 0.15, 0.3])
def test_in_all_it_is_about_the_size_asked_for(counts, size):
    labels = spread_labels(*counts)
    held_out = stratified_split(labels, size, seed=0, stay=1)[1]
    asked = size * len(labels)  # scikit-learn takes as many, and refuses where classes are too small
    assert abs(len(train_test_split(labels, test_size=size, random_state=0)[1]) - asked) < 1
    assert 0.75 * asked <= len(held_out) <= max(1.25 * asked, asked + len(counts) / 2)


def test_what_is_dealt_out_is_websters_rounding():
    """Shares, all multiplied by one number and rounded, add up to the total; sorted by hand."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows, share = rng.integers(1, 30, 60), rng.uniform(0.02, 0.3)
        counts = apportion_rows(rows, share)
        assert abs(counts.sum() - share * rows.sum()) <= 0.2 * share * rows.sum() + 0.5
        steps = sorted(((2 * c + 1) / (2 * n), k) for k, n in enumerate(rows) for c in range(n))
        by_hand = np.bincount([k for _, k in steps[: counts.sum()]], minlength=60)
        last = steps[counts.sum() - 1][0]
        differs = counts != by_hand  # only where classes tie for the last row
        assert (np.abs(counts - by_hand)[differs] == 1).all()
        ties = np.isclose((2 * np.maximum(counts, by_hand) - 1) / (2 * rows), last)
        assert ties[differs].all()


def test_a_smaller_size_is_part_of_every_larger_one_in_small_classes():
    labels = spread_labels(*[14] * 30, *[3] * 30, 200, 1, 1)
    held_out = [
        set(stratified_split(labels, size, seed=3, stay=1)[1]) for size in np.linspace(0.01, 0.95, 48)
    ]
    assert all(small <= large for small, large in pairwise(held_out))


def test_a_fraction_keeps_one_of_each_class():
    labels = spread_labels(*[20] * 5, 1)
    kept = stratified_split(labels, 0.01, seed=0, option="fraction")[1]
    assert np.bincount(labels[kept]).tolist() == [1] * 6


# --- what is said


def test_classes_without_an_example_are_named():
    labels = spread_labels(50, 1, 1)
    held_out = stratified_split(labels, 0.1, seed=0, stay=1)[1]
    assert describe_held_out(labels, held_out, 0.1, "val_size", ["a", "b", "c"]) == (
        "val_size 0.1: 2 of 3 classes have none: b, c"
    )
    labels = spread_labels(*[3] * 1000)
    held_out = stratified_split(labels, 0.1, seed=0, stay=1)[1]
    assert describe_held_out(labels, held_out, 0.1, "val_size") == (
        "val_size 0.1: 1,000 of 3,000 examples, since each class gives whole ones"
    )
    labels = spread_labels(*[20] * 10)
    held_out = stratified_split(labels, 4, seed=0, stay=1)[1]
    assert describe_held_out(labels, held_out, 4, "val_size") == (
        "val_size 4: 6 of 10 classes have none: 4, 5, 6, 7, 8, ..."
    )
    held_out = stratified_split(labels, 0.1, seed=0, stay=1)[1]
    assert describe_held_out(labels, held_out, 0.1, "val_size") == ""


def test_a_data_module_says_it(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    (tmp_path / "mine").mkdir()
    labels = spread_labels(80, 10, 1)
    np.save(tmp_path / "mine" / "train_images.npy", np.zeros((len(labels), 8, 8, 3), np.uint8))
    np.save(tmp_path / "mine" / "train_labels.npy", labels)
    (tmp_path / "mine" / "classes.txt").write_text("common\nrare\nsingle\n")
    data = set_up_data(Arrays("mine", data_dir=tmp_path))
    assert np.bincount(data.datasets["val"].labels, minlength=3).tolist() == [8, 1, 0]
    assert "val_size 0.1: 1 of 3 classes have none: single" in caplog.text + capsys.readouterr().err


def test_a_size_that_leaves_nothing_is_refused(data_dir):
    says = "val_size asks for 24 images of class 0, and 24 are there, 1 of which stays for training"
    assert says in setup_error(Arrays("tiny", data_dir=data_dir, val_size=96))


# --- a test split of one's own data


def rows_of(data) -> dict[str, set[int]]:
    return {split: set(rows.rows.tolist()) for split, rows in data.datasets.items()}


def test_a_test_split_is_carved_first_and_always_the_same(own_dir):
    for kind in ("images", "labels"):
        (own_dir / "tiny" / f"test_{kind}.npy").unlink()
    assert "test" not in set_up_data(Arrays("tiny", data_dir=own_dir)).datasets
    labels = np.load(own_dir / "tiny" / "train_labels.npy")
    rows = rows_of(set_up_data(Arrays("tiny", data_dir=own_dir, test_size=0.25)))
    assert {split: len(part) for split, part in rows.items()} == {"train": 64, "val": 8, "test": 24}
    assert rows["train"] | rows["val"] | rows["test"] == set(range(96))
    assert rows["test"] == set(split_as_before(labels, 0.25, seed=0))
    for others in ({"split_seed": 3}, {"val_size": 0}, {"seed": 1}, {"fraction": 0.5}):
        assert (
            rows_of(set_up_data(Arrays("tiny", data_dir=own_dir, test_size=0.25, **others)))["test"]
            == rows["test"]
        )
    groups = {"round": ["circle"], "straight": ["square", "star"]}
    data = set_up_data(Arrays("tiny", data_dir=own_dir, test_size=0.25, groups=groups))
    assert rows_of(data)["test"] == {row for row in rows["test"] if labels[row] != 1}


def test_a_test_split_of_its_own_is_used_whole(data_dir):
    assert len(set_up_data(Arrays("tiny", data_dir=data_dir, test_size=0.25)).datasets["test"]) == 32


def test_training_without_labels_leaves_the_test_split_out(own_dir):
    for kind in ("images", "labels"):
        (own_dir / "tiny" / f"test_{kind}.npy").unlink()
    files = {"unlabeled_images": "train_images.npy"}
    options = {"files": files, "train_on": "unlabeled", "test_size": 0.25}
    rows = rows_of(set_up_data(Arrays("tiny", data_dir=own_dir, **options)))
    assert rows["train"] == set(range(96)) - rows["val"] - rows["test"] and len(rows["test"]) == 24


def test_folders_and_tweets_have_it(tmp_path):
    write_folders(tmp_path / "mine", 10)
    data = set_up_data(ImageFolder("mine", data_dir=tmp_path, size=16, test_size=0.2))
    assert {split: len(rows) for split, rows in data.datasets.items()} == {"train": 21, "val": 3, "test": 6}
    write_tweets(tmp_path / "tweets")
    (tmp_path / "tweets" / "test.csv").unlink()
    data = set_up_data(Tweets(data_dir=tmp_path, test_size=0.2))
    assert {split: len(rows) for split, rows in data.datasets.items()} == {"train": 72, "val": 8, "test": 20}
    texts = [text for rows in data.datasets.values() for text in rows.texts]
    assert sorted(texts) == sorted(set_up_data(Tweets(data_dir=tmp_path, val_size=0)).datasets["train"].texts)
