"""Tweets as a data module, and batches of like lengths in an order that nothing else changes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.batch import BatchKey
from datamodules.loading.loader import BatchLoader
from datamodules.storage.tweet_files import read_tweets
from datamodules.texts import TextRows
from datamodules.tweets import Tweets
from tests.data_modules import set_up_data
from tests.test_tweet_files import write_tweet_file
from tests.tweets import random_tweets, write_tweets

CPU = torch.device("cpu")


# --- the data module


@pytest.fixture
def data_dir(tmp_path):
    write_tweets(tmp_path / "tweets", unlabeled=60)
    return tmp_path


def read_positions(data, loader):
    """Texts, labels and positions of a pass, in the order of positions."""
    rows = []
    for stored in loader:
        (view,), labels, index, _ = data.prepare_batch(stored, CPU, augment=True)
        assert view.dtype == torch.int64 and view.shape[1] == (view > 0).sum(1).max()
        rows += zip(index.tolist(), data.display(view), labels.tolist(), strict=True)
    return sorted(rows)


def test_every_split_is_read_whole_and_as_written(data_dir):
    data = set_up_data(Tweets(data_dir=data_dir, batch_size=7))
    texts, labels, _ = random_tweets(32, seed=1)
    assert read_positions(data, data.test_dataloader()) == list(zip(range(32), texts, labels, strict=True))
    both = read_positions(data, data.bank_dataloader()) + read_positions(data, data.val_dataloader())
    assert sorted(row[1:] for row in both) == sorted(zip(*random_tweets(100)[:2], strict=True))
    assert torch.bincount(data.datasets["val"].labels).tolist() == [5, 5]


def test_the_names_that_courses_use_are_found(tmp_path):
    (tmp_path / "tweets").mkdir()
    for split in ("train", "test"):
        write_tweet_file(tmp_path / "tweets" / f"tweets{split}.csv", label_first=True)
    data = set_up_data(Tweets(data_dir=tmp_path, val_size=0.2))
    assert {split: len(rows) for split, rows in data.datasets.items()} == {"train": 7, "val": 2, "test": 9}


def test_a_val_file_is_used_and_split_seed_fixes_the_split(data_dir):
    first, other, again = (
        set_up_data(Tweets(data_dir=data_dir, **options)).datasets["val"].texts
        for options in ({}, {"split_seed": 1}, {"seed": 1})
    )
    assert first == again != other
    write_tweet_file(data_dir / "tweets" / "val.csv")
    data = set_up_data(Tweets(data_dir=data_dir))
    assert len(data.datasets["train"]) == 100 and len(data.datasets["val"]) == 9


def test_unlabeled_tweets_are_trained_on_and_labeled_are_the_bank(data_dir):
    data = set_up_data(Tweets(data_dir=data_dir, train_on="unlabeled"), training=True)
    assert data.datasets["train"].labels.tolist() == [-1] * 60 and len(data.datasets["bank"]) == 90
    assert (data.datasets["bank"].labels >= 0).all()
    assert data.datasets["train"].texts == [text.encode() for text in random_tweets(60, 2)[0]]


def test_groups_are_the_sources_row_by_row(data_dir):
    data = set_up_data(Tweets(data_dir=data_dir))
    sources = dict(zip(random_tweets(100)[0], random_tweets(100)[2], strict=True))
    rows = data.datasets["val"]
    assert data.groups_of("val") == [sources[text.decode()] for text in rows.texts]
    write_tweet_file(data_dir / "tweets" / "test.csv")
    assert set_up_data(Tweets(data_dir=data_dir)).groups_of("test") is None


def test_raw_features_count_characters_and_not_the_padding():
    data = Tweets()
    stored = *TextRows([b"abba", b"", b"~"]).__getitems__(np.arange(3)), BatchKey.single(0, 3)
    view = data.prepare_batch(stored, CPU, False).views[0]
    counts = data.compute_raw_features(view)
    assert counts.shape == (3, 128) and counts.dtype == torch.float32 and counts.sum(1).tolist() == [4, 0, 1]
    assert counts[0, ord("a")] == counts[0, ord("b")] == 2 and counts[2, ord("~")] == 1


def test_long_and_empty_tweets_stay_cut_or_empty_and_are_told_once(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr("datamodules.tweets.rank_zero_info", messages.append)
    (tmp_path / "tweets").mkdir()
    path = tmp_path / "tweets" / "train.csv"
    path.write_text("1234567890,1\n,0\n\u65e5\u672c,1\nshort,0\n", encoding="utf-8")
    data = set_up_data(Tweets(data_dir=tmp_path, max_length=6, val_size=0))
    assert data.datasets["train"].texts == [b"123456", b"", b"", b"short"]
    assert messages == [
        f"{path}: of 4 tweets 1 are longer than 6 characters and cut there, 2 have none and stay empty"
    ]
    view = data.read_batch("train", np.array([1, 2]), CPU).views[0]
    assert view.tolist() == [[0], [0]] and data.display(view) == ["", ""]


def test_non_ascii_travels_in_the_checkpoint_and_must_match():
    state = Tweets(non_ascii="drop").state_dict()
    Tweets(non_ascii="drop").load_state_dict(state)
    with pytest.raises(MisconfigurationException, match="non_ascii drop"):
        Tweets().load_state_dict(state)


# --- batches of like lengths


def random_rows(count=480, seed=0):
    lengths = np.random.default_rng(seed).integers(1, 100, count)
    return TextRows([b"x" * n for n in lengths])


def make_loader(rows, batch_size=8, shard=(0, 1), epoch=0, first=0, seed=0, workers=0):
    return BatchLoader(rows, batch_size, seed, shard, lambda: (epoch, first), num_workers=workers)


def test_buckets_save_most_of_the_padding_and_lose_no_text():
    rows = random_rows()
    batches = [(codes, index) for codes, _, index, _ in make_loader(rows)]
    padded = sum(codes.numel() for codes, _ in batches)
    assert padded < 1.15 * rows.lengths.sum() < 0.65 * rows.lengths.max() * len(rows)
    assert sorted(torch.cat([index for _, index in batches]).tolist()) == list(range(480))
    widths = [codes.shape[1] for codes, _ in batches]
    assert widths != sorted(widths) and abs(np.corrcoef(widths, range(len(widths)))[0, 1]) < 0.4


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    orders = []
    for options in ({}, {}, {"workers": 2}, {"epoch": 1}, {"seed": 1}):
        np.random.seed(len(orders))
        orders.append([index.tolist() for *_, index, _ in make_loader(random_rows(), **options)])
    assert orders[0] == orders[1] == orders[2] and orders[3] != orders[0] != orders[4] != orders[3]
    partners = [{tuple(sorted(batch)) for batch in order} for order in (orders[0], orders[3])]
    assert not partners[0] & partners[1]  # who is with whom differs, too


@pytest.mark.parametrize("first", [0, 3, 50])
def test_starting_from_a_place_yields_exactly_the_rest(first):
    epoch, rest = (
        list(make_loader(random_rows(), epoch=2)),
        list(make_loader(random_rows(), epoch=2, first=first)),
    )
    assert len(rest) == len(epoch) - first
    for one, other in zip(epoch[first:], rest, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[2], other[2]) and one[3] == other[3]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_batch_of_like_lengths(world):
    single = [index for *_, index, _ in make_loader(random_rows(), batch_size=4 * world)]
    ranks = [
        [index for *_, index, _ in make_loader(random_rows(), 4, (rank, world))] for rank in range(world)
    ]
    assert len(single) == len(ranks[0]) > 0
    for batch, *parts in zip(single, *ranks, strict=True):
        assert torch.equal(torch.cat(parts), batch)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_in_evaluation_texts_come_by_length_each_exactly_once(world):
    rows, positions = random_rows(50), []
    for rank in range(world):
        index_of_rank = torch.cat(
            [index for *_, index, _ in make_loader(rows, shard=(rank, world), seed=None)]
        )
        assert (np.diff(rows.lengths[index_of_rank]) >= 0).all()
        positions += index_of_rank.tolist()
    assert sorted(positions) == list(range(50))


def test_fewer_texts_than_a_batch_make_no_batch():
    assert len(make_loader(random_rows(5))) == 0 and list(make_loader(random_rows(5))) == []


# --- real tweets

REAL = Path(__file__).parents[1] / "data/tweets"


@pytest.mark.skipif(not REAL.is_dir(), reason="data/tweets is missing")
def test_real_tweets_are_read_as_a_csv_reader_reads_them():
    for split in ("train", "test"):
        tweets = read_tweets(REAL / f"{split}.csv")
        with open(REAL / f"{split}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) > 2000 and tweets.texts == [row["text"] for row in rows]
        assert tweets.labels == [int(row["label"]) for row in rows]
        assert tweets.sources == [row["source"] for row in rows]
