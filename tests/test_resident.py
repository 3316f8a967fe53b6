"""What `resident: true` promises: the same batches, from the device; or one line that says why not."""

import logging
from types import SimpleNamespace

import pytest
import torch

from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.loading import loader, resident
from datamodules.loading.loader import RowsDataset
from tests.conftest import command_line, write_random
from tests.errors import refused_in_one_line
from tests.methods import METHODS, build, train
from tests.test_compile import SaveAt
from tests.test_methods import tiny

CPU = torch.device("cpu")
RECIPE = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5, jitter=0.8, brightness=0.4)
SIMCLR = METHODS[0]


@pytest.fixture
def gpu(monkeypatch):
    """The CPU, taken for a GPU."""
    monkeypatch.setattr(resident, "free_bytes", lambda device: 2**30)


def module(data_dir, name="tiny", rank=0, world=1, first=0, training=True, **options):
    """As a Trainer sets it up, at batch `first` of the second epoch."""
    data = Arrays(name, data_dir=data_dir, views=[RECIPE, RECIPE], batch_size=12, **options)
    progress = SimpleNamespace(current=SimpleNamespace(ready=first))
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        current_epoch=1,
        training=training,
        strategy=SimpleNamespace(root_device=CPU),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    data.setup("fit")
    return data


def batches(data):
    """Every batch of every stream, as a step reads it."""
    streams = [(data.train_dataloader(), True), (data.bank_dataloader(), False)]
    streams += [(data.val_dataloader(), False), (data.test_dataloader(), False)]
    return [data.prepare_batch(stored, CPU, augment) for stream, augment in streams for stored in stream]


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for (views, labels, index, key), (their_views, *theirs) in zip(batches, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(views, their_views, strict=True))
        assert torch.equal(labels, theirs[0]) and torch.equal(index, theirs[1]) and key == theirs[2]


# --- the same batches


@pytest.mark.parametrize("rank, world", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("first", [0, 2])
def test_batches_of_all_streams_are_the_same_bits(rank, world, first, data_dir, gpu):
    options = {"rank": rank, "world": world, "first": first}
    ours, theirs = (module(data_dir, resident=kept, **options) for kept in (True, False))
    assert_same(batches(ours), batches(theirs))


def test_images_without_labels_and_the_bank_are_kept_too(tmp_path, gpu):
    write_random(tmp_path / "mine", unlabeled=40)
    options = {"name": "mine", "train_on": "unlabeled", "unlabeled": 30, "labels_per_class": 5}
    ours, theirs = (module(tmp_path, resident=kept, **options) for kept in (True, False))
    assert_same(batches(ours), batches(theirs))
    kept = {split for split, rows in ours.datasets.items() if rows.resident is not None}
    assert kept == {"train", "bank", "val"}


def test_what_is_kept_is_read_once_and_in_parts(data_dir, gpu, monkeypatch):
    monkeypatch.setattr(loader, "COPY_BYTES", 16 * 16 * 3 * 10)
    read, real = [], RowsDataset.load_images
    monkeypatch.setattr(RowsDataset, "load_images", lambda rows, at: read.append(len(at)) or real(rows, at))
    ours = module(data_dir, resident=True)
    assert read == [10] * 8 + [8] + [8]  # 88 training and 8 validation images
    ours.setup("fit")
    for stream in (ours.train_dataloader(), ours.val_dataloader(), ours.bank_dataloader()):
        list(stream)
    assert len(read) == 10
    monkeypatch.undo()
    assert_same(batches(ours), batches(module(data_dir)))


def test_a_batch_is_a_copy_that_may_be_written_to(data_dir, gpu):
    rows = module(data_dir, resident=True).datasets["train"]
    before = rows.resident.clone()
    rows.__getitems__(torch.arange(4).numpy())[0].zero_()
    assert torch.equal(rows.resident, before)


def test_a_run_has_the_same_weights_and_knn_from_mid_epoch(data_dir, tmp_path, gpu):
    ends, path = [], tmp_path / "half.ckpt"
    for kept, start in ((False, None), (True, None), (True, path)):
        method, callbacks = build(SIMCLR), [Features(), KNN(), SaveAt(4, path)]
        options = {"callbacks": callbacks, "max_epochs": 2}
        trainer = train(method, tiny(data_dir, SIMCLR, resident=kept), tmp_path, start, **options)
        ends.append(method.state_dict() | {"kNN": trainer.callback_metrics["val/knn20_top1"]})
    for name, value in ends[0].items():
        assert torch.equal(ends[1][name], value) and torch.equal(ends[2][name], value), name


# --- what is said


def test_a_line_says_what_it_takes(data_dir, gpu, caplog):
    with caplog.at_level(logging.INFO):
        module(data_dir, resident=True)
    assert caplog.messages == ["resident: images (88 of train, 8 of val) stay on cpu and take 0.1 MiB there"]


def refused(data_dir, **options):
    with refused_in_one_line("^data.init_args.resident: ") as error:
        module(data_dir, resident=True, **options)
    return str(error.value)


def test_a_run_on_a_cpu_is_refused(data_dir):
    assert "this run is on cpu: set it to false" in refused(data_dir)


def test_images_that_do_not_fit_are_refused_and_none_is_copied(data_dir, monkeypatch):
    monkeypatch.setattr(resident, "free_bytes", lambda device: 50_000)
    monkeypatch.setattr(RowsDataset, "keep_on", None)
    assert "(88 of train, 8 of val) take 0.1 MiB and cpu has 0.0 free: set it to false" in refused(data_dir)


def test_workers_are_refused(data_dir, gpu):
    assert "set data.init_args.num_workers to 0, it is 2" in refused(data_dir, num_workers=2)


def test_other_verbs_and_the_test_split_keep_nothing(data_dir, gpu):
    data = module(data_dir, resident=True)
    assert data.datasets["test"].resident is None
    data = Arrays("tiny", data_dir=data_dir, resident=True)
    data.setup("fit")  # `inspect` has no device to keep it on
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=CPU))
    for stage in ("validate", "test", "predict"):
        data.setup(stage)
    assert all(rows.resident is None for rows in data.datasets.values())


@pytest.mark.usefixtures("untouched_process")
def test_text_has_no_such_option(capsys):
    args = ["--config", "configs/char_lstm_tweets.yaml", "--data.init_args.resident", "true"]
    assert command_line("fit", *args) == 2
    assert "resident" in capsys.readouterr().err
