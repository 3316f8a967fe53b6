"""The key of a batch: equal rows draw equal numbers, whenever they are asked for and on any number of processes."""

import numpy as np
import pytest
import torch

from common.batch import BatchKey
from datamodules.loading.loader import BatchLoader, RowsDataset
from tests.conftest import random_split


def test_a_generator_is_fresh_and_has_a_stream_for_each_name():
    key = BatchKey.single(7, 5)
    assert torch.equal(key.rand(3), key.rand(3)) and torch.equal(
        key.randn(2, name="mask"), key.randn(2, name="mask")
    )
    assert not torch.equal(key.rand(3), key.rand(3, name="mask"))
    assert not torch.equal(key.rand(3), BatchKey.single(8, 5).rand(3))


def test_draws_without_a_name_have_the_seed_of_runs_before_names():
    seed = int(np.random.SeedSequence([7, 0]).generate_state(1)[0])
    expected = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(BatchKey.single(7, 5).randn(3), expected)


def test_local_rows_are_rows_of_the_draw_of_all_processes():
    whole = BatchKey.single(7, 12)
    for local in (slice(4, 8), slice(1, 12, 3)):
        key = BatchKey(7, 12, local)
        assert torch.equal(key.rand(2), whole.rand(2)[local]) and torch.equal(
            key.randn(), whole.randn()[local]
        )
        assert torch.equal(key.randint(9), whole.randint(9)[local])


@pytest.mark.parametrize("training", [True, False])
def test_a_row_has_the_same_draws_on_any_number_of_processes(training):
    images, labels = random_split(31)
    draws: dict[int, set[float]] = {}
    for world in (1, 2, 3):
        for rank in range(world):
            seed = 0 if training else None
            loader = BatchLoader(RowsDataset(images, labels), 12 // world, seed=seed, shard=(rank, world))
            for *_, index, key in loader:
                for position, value in zip(index.tolist(), key.randn().tolist(), strict=True):
                    draws.setdefault(position, set()).add(value)
    assert all(len(values) == 1 for values in draws.values())
    assert len(set().union(*draws.values())) == len(draws) == (24 if training else 31)
