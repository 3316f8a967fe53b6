"""Order, keys and augmentation follow from seed, epoch and batch number: not from workers, processes or stops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.loading.loader import BatchLoader, RowsDataset, batch_number
from tests.conftest import random_split

RECIPE = Recipe(
    scale=(0.4, 1.0),
    ratio=(0.75, 1.33),
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    gray=0.2,
    blur=0.5,
)
IMAGES, LABELS = random_split(50, size=6)


def dataset(count=50):
    return RowsDataset(IMAGES[:count], LABELS[:count])


def loader(batch_size=8, seed=0, shard=(0, 1), epoch=0, first=0, count=50, workers=0):
    return BatchLoader(dataset(count), batch_size, seed, shard, lambda: (epoch, first), num_workers=workers)


def indices(batches):
    return [index.tolist() for *_, index, _ in batches]


def keys(batches):
    return [key.number for *_, key in batches]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch[-1] == other[-1]
        for one, another in zip(batch[:-1], other[:-1], strict=True):
            assert torch.equal(one, another)


# --- rows


def test_rows_come_as_stored_in_the_order_asked_for():
    rows = np.array([40, 3, 17, 9])
    images, labels, index = RowsDataset(IMAGES, LABELS, rows).__getitems__(np.array([2, 0, 3]))
    assert images.dtype == torch.uint8 and np.array_equal(images.numpy(), IMAGES[[17, 40, 9]])
    assert labels.tolist() == LABELS[[17, 40, 9]].tolist() and labels.dtype == torch.int64
    assert index.tolist() == [2, 0, 3] and index.dtype == torch.int64


def test_a_batch_is_a_copy_that_may_be_written_to(data_dir):
    stored = np.load(data_dir / "tiny" / "train_images.npy", mmap_mode="r")
    images, *_ = RowsDataset(stored).__getitems__(np.array([0]))
    images.zero_()
    assert stored[0].any()


def test_without_labels_they_are_minus_one():
    _, labels, _ = RowsDataset(IMAGES).__getitems__(np.array([1, 2]))
    assert labels.tolist() == [-1, -1] and labels.dtype == torch.int64


# --- order and keys


def test_an_epoch_visits_rows_at_most_once_in_whole_batches():
    batches = list(loader())
    rows = [row for batch in indices(batches) for row in batch]
    assert len(batches) == len(loader()) == 6 and len(set(rows)) == len(rows) == 48
    assert rows != sorted(rows)


def test_order_is_a_function_of_seed_and_epoch_only():
    torch.manual_seed(0), np.random.seed(0)
    first = list(loader(epoch=2))
    torch.manual_seed(1), np.random.seed(1)
    assert_same(first, loader(epoch=2))
    orders = [
        str(indices(loader(**other))) for other in ({"epoch": 2}, {"epoch": 3}, {"epoch": 2, "seed": 1})
    ]
    assert len(set(orders)) == 3


def test_over_epochs_every_row_is_seen():
    rows = {row for epoch in range(6) for batch in indices(loader(epoch=epoch)) for row in batch}
    assert rows == set(range(50))


def test_keys_differ_between_batches_epochs_and_seeds():
    numbers = [
        batch_number(seed, epoch, batch) for seed in range(5) for epoch in range(5) for batch in range(40)
    ]
    assert len(set(numbers)) == len(numbers) == 1000
    assert all(type(number) is int and 0 <= number < 2**32 for number in numbers)
    assert keys(loader(seed=3, epoch=2)) == [batch_number(3, 2, batch) for batch in range(6)]


def test_keys_are_well_mixed():
    bits = np.array([[batch_number(0, 0, batch) >> bit & 1 for bit in range(32)] for batch in range(400)])
    assert (abs(bits.mean(0) - 0.5) < 0.15).all()


def test_evaluation_keeps_the_order_and_has_a_smaller_last_batch():
    batches = list(loader(seed=None, epoch=3))
    assert [row for batch in indices(batches) for row in batch] == list(range(50))
    assert [len(batch[0]) for batch in batches] == [8] * 6 + [2] and len(loader(seed=None)) == 7


def test_reading_draws_nothing_from_the_global_generators():
    for workers in (0, 2):
        torch.manual_seed(0), np.random.seed(0)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        list(loader(workers=workers, count=16))
        assert torch.equal(torch.get_rng_state(), before[0]), f"{workers} workers"
        assert np.random.get_state()[1].tolist() == before[1], f"{workers} workers"


# --- processes


@pytest.mark.parametrize("world", [2, 3])
def test_batches_of_training_processes_join_to_the_batch_of_one(world):
    alone = list(loader(batch_size=4 * world, epoch=1))
    ranks = [list(loader(batch_size=4, shard=(rank, world), epoch=1)) for rank in range(world)]
    assert len(alone) == len(loader(batch_size=4, shard=(0, world))) == len(ranks[0])
    for number, whole in enumerate(alone):
        parts = [rank[number] for rank in ranks]
        for column in range(3):
            assert torch.equal(torch.cat([part[column] for part in parts]), whole[column])
        assert {part[-1].number for part in parts} == {whole[-1].number}


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 8, 17, 50])
def test_evaluation_reads_every_row_exactly_once_without_padding(world, count):
    ranks = [loader(batch_size=4, seed=None, shard=(rank, world), count=count) for rank in range(world)]
    rows = [row for rank in ranks for batch in indices(rank) for row in batch]
    assert sorted(rows) == list(range(count))
    for rank in ranks:
        batches = list(rank)
        assert len(batches) == len(rank) and all(1 <= len(batch[0]) <= 4 for batch in batches)


# --- stops and workers


@pytest.mark.parametrize("epoch, first", [(0, 0), (0, 3), (2, 5), (2, 6)])
@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_starting_from_a_place_yields_exactly_the_rest(epoch, first, shard):
    options = {"batch_size": 8 // shard[1], "shard": shard, "epoch": epoch}
    assert_same(list(loader(**options))[first:], loader(**options, first=first))


def test_the_place_is_asked_when_the_first_batch_is():
    place = [0, 0]
    batches = iter(BatchLoader(dataset(), 8, seed=0, place=lambda: tuple(place)))
    place[:] = [4, 2]  # what a resumed Trainer knows only after the loader was made
    assert_same(list(batches), list(loader(epoch=4))[2:])


@pytest.mark.parametrize("first", [0, 2])
def test_no_worker_and_two_workers_read_the_same_bits(first):
    options = {"epoch": 1, "first": first, "count": 32}
    assert_same(list(loader(**options)), loader(**options, workers=2))


def test_it_has_no_state_to_save():
    state = loader().state_dict()
    loader().load_state_dict(state)
    assert state == {}


# --- augmentation


def module(data_dir, rank=0, world=1, batch_size=12, **options):
    data = Arrays("tiny", data_dir=data_dir, views=[RECIPE, RECIPE], batch_size=batch_size, **options)
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, current_epoch=1, training=True, fit_loop=loop
    )
    data.setup("fit")
    return data


def prepared(data):
    return [
        data.prepare_batch(stored, torch.device("cpu"), augment=True) for stored in data.train_dataloader()
    ]


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("world", [2, 4])
def test_the_views_of_all_processes_are_those_of_the_one_process(data_dir, color, world):
    alone = prepared(module(data_dir, batch_size=24, color=color))
    ranks = [prepared(module(data_dir, rank, world, 24 // world, color=color)) for rank in range(world)]
    assert len(alone) == 3
    for number, (views, labels, index, key) in enumerate(alone):
        parts = [rank[number] for rank in ranks]
        for v, view in enumerate(views):
            torch.testing.assert_close(torch.cat([part[0][v] for part in parts]), view, atol=1e-6, rtol=0)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        assert torch.equal(torch.cat([part[2] for part in parts]), index)
        assert all(part[3].number == key.number for part in parts)


def test_the_trainers_place_is_the_loaders(data_dir):
    data = module(data_dir)
    whole = list(data.train_dataloader())
    data.trainer.fit_loop.epoch_loop.batch_progress.current.ready = 2
    assert_same(whole[2:], data.train_dataloader())
    data.trainer.current_epoch = 2
    assert indices(data.train_dataloader()) != indices(whole[2:])


def test_seed_and_epoch_change_the_views_and_nothing_else_does(data_dir):
    (first, *_), *_ = prepared(module(data_dir))
    (again, *_), *_ = prepared(module(data_dir))
    (other, *_), *_ = prepared(module(data_dir, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
