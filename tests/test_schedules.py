"""Steps are counted as the optimizer takes them, whatever is accumulated."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder

from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from ssl_modules.schedules import count_all_steps, count_steps
from tests.errors import refused_in_one_line
from tests.methods import METHODS, build, train
from tests.test_ema import NoteMetrics
from tests.test_methods import RATE, Spy, sgd, tiny

CASE = METHODS[0]
DINO = next(case for case in METHODS if case.method.__name__ == "DINO")


def fit(data_dir, folder, *callbacks, case=CASE, batch_size=8, warmup_epochs=0.0, **options):
    """(trainer, rates of the optimizer's steps): eleven batches an epoch by default."""
    method, spy = build(case, optimizer=sgd, warmup_epochs=warmup_epochs), Spy()
    data = tiny(data_dir, case, batch_size=batch_size)
    trainer = train(method, data, folder, callbacks=[spy, *callbacks], **options)
    return trainer, spy.rates


def first_of_each_step(rates, lengths):
    """The rates of an epoch's groups of batches; `lengths` are the sizes of groups, epoch by epoch."""
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1].tolist()
    return [rates[start] for start in starts]


@pytest.mark.parametrize("accumulated, groups", [(4, [4, 4, 3]), (50, [11]), (1, [1] * 11)])
def test_warm_up_is_of_the_steps_that_the_optimizer_takes(accumulated, groups, data_dir, tmp_path):
    options = {"accumulate_grad_batches": accumulated, "max_epochs": 5, "warmup_epochs": 4}
    trainer, rates = fit(data_dir, tmp_path, **options)
    steps = len(groups)
    assert trainer.global_step == 5 * steps == trainer.estimated_stepping_batches == count_all_steps(trainer)
    rising = [RATE * (step + 1) / (4 * steps) for step in range(4 * steps)]
    falling = [RATE * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert first_of_each_step(rates, groups * 5) == pytest.approx(rising + falling)


def test_accumulation_that_changes_with_the_epoch_is_counted(data_dir, tmp_path):
    changing = GradientAccumulationScheduler({0: 4, 2: 2})
    trainer, rates = fit(data_dir, tmp_path, changing, max_epochs=4, warmup_epochs=1)
    groups = [4, 4, 3] * 2 + [2, 2, 2, 2, 2, 1] * 2
    assert trainer.global_step == len(groups) == count_all_steps(trainer) == 18
    assert [count_steps(trainer, epochs) for epochs in (0, 0.5, 1, 2, 2.5, 3, 4)] == [0, 1.5, 3, 6, 9, 12, 18]
    rising = [RATE * (step + 1) / 3 for step in range(3)]
    falling = [RATE * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(15)]
    assert first_of_each_step(rates, groups) == pytest.approx(rising + falling)


def test_a_teachers_temperature_counts_the_same_steps(data_dir, tmp_path):
    arguments = DINO.arguments | {"teacher_temperatures": (0.1, 0.2), "temperature_epochs": 2}
    notes = NoteMetrics()
    options = {"accumulate_grad_batches": 4, "max_epochs": 3}
    fit(data_dir, tmp_path, notes, case=DINO._replace(arguments=arguments), **options)
    rows = first_of_each_step(notes.rows, [4, 4, 3] * 3)
    expected = [0.1 + 0.1 * min(1, step / 6) for step in range(9)]
    assert [row["teacher_temperature"] for row in rows] == pytest.approx(expected)
    momenta = [1 - 0.1 * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)]
    assert [row["momentum"] for row in rows] == pytest.approx(momenta)


@pytest.mark.parametrize("finder", [BatchSizeFinder(), LearningRateFinder()])
def test_what_changes_a_run_after_its_schedule_is_made_is_refused(finder, data_dir, tmp_path):
    with refused_in_one_line("leave it out"):
        fit(data_dir, tmp_path, finder)


def test_two_ways_to_accumulate_are_refused(data_dir, tmp_path):
    with refused_in_one_line("leave one of them out"):
        fit(data_dir, tmp_path, GradientAccumulationScheduler({0: 2}), accumulate_grad_batches=2)


def read_rows(data_dir, folder, **options) -> list[list[int]]:
    """Which images each training batch of three epochs had."""
    rows = []

    class Rows(Spy):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            super().on_train_batch_start(trainer, module, batch, batch_idx)
            rows.append(batch.index.tolist())

    data = Arrays("tiny", data_dir=data_dir, views=[Recipe(flip=0.5)] * 2, batch_size=8)
    train(build(CASE), data, folder, callbacks=[Rows()], max_epochs=3, **options)
    return rows


def test_the_batches_to_overfit_are_the_same_in_each_epoch(data_dir, tmp_path):
    first, second, *rest = read_rows(data_dir, tmp_path, overfit_batches=2)
    assert rest == [first, second] * 2 and not set(first) & set(second)
    assert first == read_rows(data_dir, tmp_path, limit_train_batches=1)[0]
    assert len({tuple(rows) for rows in read_rows(data_dir, tmp_path, limit_train_batches=1)}) == 3
