"""STL-10 and MNIST as torchvision downloads them; training on one stream of images, probing on another."""

import csv
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from callbacks.evaluation.features import Features, FeatureSet
from callbacks.evaluation.knn import KNN, knn_accuracy
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.protocol import Protocol
from callbacks.loggers.csv import CSVLogger
from callbacks.measures.linear_probe import fit_probe
from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from datamodules.digits import Digits
from datamodules.mnist import MNIST
from datamodules.stl10 import STL10
from datamodules.storage.download import download_splits
from datamodules.storage.layout import write_arrays
from datamodules.storage.splits import ArraySplit, subsample_rows
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR
from tests.conftest import random_split, write_random
from tests.data_modules import CPU, set_up_data, setup_error, transfer_batch
from tests.methods import train

ROOT = Path(__file__).parent.parent
VIEW = Recipe(scale=(0.5, 1.0), flip=0.5, jitter=0.8, brightness=0.4)


def write_idx(path, array):
    """The format of MNIST's files, http://yann.lecun.com/exdb/mnist"""
    sizes = b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


@pytest.fixture
def mnist_files(tmp_path):
    """MNIST as torchvision leaves it after a download, 100 and 40 images."""
    folder = tmp_path / "mnist" / "download" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    splits = {"train": random_split(100, 28, 1, 10), "t10k": random_split(40, 28, 1, 10, seed=1)}
    for prefix, (images, labels) in splits.items():
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))
    return tmp_path, splits


@pytest.fixture
def stl10_files(tmp_path, monkeypatch):
    """STL-10 as torchvision leaves it after a download: 60 labeled, 20 test and 30 unlabeled images."""
    folder = tmp_path / "stl10" / "download" / "stl10_binary"
    folder.mkdir(parents=True)
    counts = {"train": 60, "test": 20, "unlabeled": 30}
    splits = {name: random_split(n, 96, 3, 10, seed=n) for name, n in counts.items()}
    for name, (images, labels) in splits.items():
        images.transpose(0, 3, 2, 1).tofile(folder / f"{name}_X.bin")  # channels, columns, rows
        (labels + 1).astype(np.uint8).tofile(folder / f"{name}_y.bin")
    folds = [np.random.default_rng(k).permutation(60)[:20] for k in range(10)]
    (folder / "fold_indices.txt").write_text("".join(" ".join(map(str, fold)) + " \n" for fold in folds))
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    return tmp_path, splits


# --- downloads


def test_mnist_is_packed_from_torchvisions_files(mnist_files):
    folder, splits = mnist_files
    data = set_up_data(MNIST(data_dir=folder))
    for name, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = splits[prefix]
        assert np.array_equal(np.load(folder / "mnist" / f"{name}_images.npy"), images)
        assert np.array_equal(np.load(folder / "mnist" / f"{name}_labels.npy"), labels)
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 90, "val": 10, "test": 40}
    (view,), *_ = transfer_batch(data, next(iter(data.test_dataloader())))
    assert view.shape == (40, 1, 32, 32)


def test_stl10_is_packed_from_torchvisions_files(stl10_files):
    folder, splits = stl10_files
    data = set_up_data(STL10(data_dir=folder))
    for name, (images, labels) in splits.items():
        assert np.array_equal(np.load(folder / "stl10" / f"{name}_images.npy"), images)
        if name != "unlabeled":
            assert np.array_equal(np.load(folder / "stl10" / f"{name}_labels.npy"), labels)
    sizes = {"train": 30, "bank": 50, "val": 10, "test": 20}
    assert {name: len(split) for name, split in data.datasets.items()} == sizes
    assert (folder / "stl10" / "classes.txt").read_text().split() == STL10.class_names


def test_stl10_is_packed_once_and_unlabeled_images_on_demand(stl10_files, monkeypatch):
    folder, _ = stl10_files
    set_up_data(STL10(data_dir=folder, train_on="labeled"))
    assert not (folder / "stl10" / "unlabeled_images.npy").exists()
    before = (folder / "stl10" / "train_images.npy").stat().st_mtime_ns
    set_up_data(STL10(data_dir=folder))
    assert (folder / "stl10" / "train_images.npy").stat().st_mtime_ns == before
    monkeypatch.setattr(torchvision.datasets, "STL10", lambda *args, **more: pytest.fail("no need to"))
    assert len(set_up_data(STL10(data_dir=folder)).datasets["train"]) == 30
    assert not list((folder / "stl10").glob(".part*"))


def test_two_processes_at_once_download_once(tmp_path):
    fetched = []

    def fetch(split, folder):
        fetched.append(split)
        time.sleep(0.2)
        return ArraySplit(*random_split(20))

    with ThreadPoolExecutor(2) as pool:  # locks are between files, not processes
        waits = [
            pool.submit(download_splits, "X", tmp_path / "x", ("train", "test"), ["a"] * 4, fetch)
            for _ in range(2)
        ]
        assert [wait.result() for wait in waits] == [None, None]
    assert fetched == ["train", "test"]


@pytest.mark.parametrize("data_set", [STL10, MNIST])
def test_a_download_that_fails_is_told_in_one_line(data_set, tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise RuntimeError("Error downloading:\nTried https://a\nTried https://b\n")

    monkeypatch.setattr(torchvision.datasets, data_set.__name__, download)
    text = setup_error(data_set(data_dir=tmp_path))
    assert str(tmp_path) in text and "data_dir" in text and "Tried https://a Tried https://b" in text


# --- which images


@pytest.mark.parametrize("fold", [0, 7])
def test_folds_are_torchvisions(stl10_files, fold):
    folder, _ = stl10_files
    data = set_up_data(STL10(data_dir=folder, fold=fold, val_size=0.0))
    theirs = torchvision.datasets.STL10(folder / "stl10" / "download", "train", folds=fold)
    images, labels, _ = data.datasets["bank"].__getitems__(np.arange(20))
    assert np.array_equal(images.permute(0, 3, 1, 2), theirs.data)
    assert labels.tolist() == theirs.labels.tolist() and len(data.datasets["bank"]) == 20
    held_out = set_up_data(STL10(data_dir=folder, fold=fold, val_size=0.3)).datasets
    assert len(held_out["bank"]) + len(held_out["val"]) == 20 and len(held_out["train"]) == 30


def test_folds_that_are_not_there_are_refused(stl10_files):
    folder, _ = stl10_files
    assert "fold: 10 " in setup_error(STL10(data_dir=folder, fold=10))
    (folder / "stl10" / "fold_indices.txt").unlink()
    text = setup_error(STL10(data_dir=folder, fold=0))
    assert "fold_indices.txt" in text and "set fold to null" in text


def test_a_choice_of_unlabeled_images_is_always_the_same():
    few, more = subsample_rows(1000, 10), subsample_rows(1000, 100)
    assert len(set(more.tolist())) == 100 and (np.diff(more) > 0).all() and set(few) < set(more)
    assert np.array_equal(few, subsample_rows(1000, 10)) and subsample_rows(5, None).tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert abs(subsample_rows(100_000, 10_000).mean() - 50_000) < 1000


def test_more_unlabeled_images_than_there_are_are_refused(two_streams):
    text = setup_error(unlabeled_data(two_streams, unlabeled=41))
    assert "unlabeled: 41 of 40" in text and "null for all" in text


def test_a_fraction_of_mnist_is_balanced_and_always_the_same(tmp_path):
    write_random(tmp_path / "mnist", train=400, classes=MNIST.class_names, size=28, channels=1)
    data = set_up_data(MNIST(data_dir=tmp_path, fraction=0.25, val_size=0.2))
    assert torch.bincount(data.datasets["train"].labels).tolist() == [8] * 10
    assert torch.bincount(data.datasets["val"].labels).tolist() == [8] * 10
    assert len(data.datasets["test"]) == 32
    other = set_up_data(MNIST(data_dir=tmp_path, fraction=0.25, val_size=0.2, seed=5))
    assert np.array_equal(data.datasets["train"].rows, other.datasets["train"].rows)


# --- two streams


@pytest.fixture
def two_streams(tmp_path):
    """`both`: 96 labeled, 32 test and 40 unlabeled images of 4 classes."""
    write_random(tmp_path / "both", unlabeled=40)
    return tmp_path


def unlabeled_data(folder, **options):
    return Arrays("both", data_dir=folder, views=[VIEW] * 2, train_on="unlabeled", **options)


def test_training_reads_the_unlabeled_images(two_streams):
    data = set_up_data(unlabeled_data(two_streams, batch_size=8, unlabeled=24), training=True)
    stored = np.load(two_streams / "both" / "unlabeled_images.npy")
    positions = []
    for batch in data.train_dataloader():
        images, labels, index, _ = batch
        assert np.array_equal(images, stored[subsample_rows(40, 24)[index]])
        assert torch.equal(labels, torch.full((8,), -1))
        (x1, x2), *_ = transfer_batch(data, batch)
        assert x1.shape == x2.shape == (8, 3, 16, 16)
        positions += index.tolist()
    assert sorted(positions) == list(range(24))


def test_unlabeled_images_leave_bank_and_validation_unchanged(two_streams):
    data = set_up_data(unlabeled_data(two_streams))
    plain = set_up_data(Arrays("both", data_dir=two_streams))
    for loader in ("bank_dataloader", "val_dataloader", "test_dataloader"):
        for one, other in zip(getattr(data, loader)(), getattr(plain, loader)(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
    assert "bank" not in plain.datasets and len(plain.datasets["train"]) == 88
    assert data.num_classes == 4 and data.datasets["train"].images.shape == (40, 16, 16, 3)


@pytest.mark.parametrize("make", [Digits, lambda **more: Arrays("tiny", **more)])
def test_unlabeled_images_that_are_not_there_are_told(make, data_dir):
    assert "unlabeled_images.npy" in setup_error(make(data_dir=data_dir, train_on="unlabeled"))


def test_unlabeled_images_may_be_called_otherwise(two_streams):
    (two_streams / "both" / "unlabeled_images.npy").rename(two_streams / "more.npy")
    data = unlabeled_data(two_streams, files={"unlabeled_images": str(two_streams / "more.npy")})
    assert len(set_up_data(data).datasets["train"]) == 40


def test_unlabeled_images_with_other_channels_are_refused(two_streams):
    path = two_streams / "both" / "unlabeled_images.npy"
    np.save(path, random_split(40, channels=1)[0])
    assert f"{path}: 1 channels" in setup_error(unlabeled_data(two_streams))
    set_up_data(Arrays("both", data_dir=two_streams))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A fit on real digits without their labels, watched by what reads labels: those of 600 others."""
    folder = tmp_path_factory.mktemp("run")
    images = load_digits().images.astype(np.uint8)[..., None] * 15
    labels = load_digits().target.astype(np.int64)
    rows = {"train": slice(600), "test": slice(600, 800), "unlabeled": slice(800, None)}
    arrays = {f"{split}_images": images[part] for split, part in rows.items()}
    arrays |= {f"{split}_labels": labels[rows[split]] for split in ("train", "test")}
    write_arrays(folder / "both", arrays, list("0123456789"))
    protocol = Protocol(k=5, few=2, draws=2)
    callbacks = [Features(), OnlineProbe(), KNN(k=5, every_n_epochs=1), protocol]
    encoder = ResNet(widths=[8, 16], blocks=[1, 1], in_channels=1)
    module = SimCLR(encoder=encoder, hidden_dim=16, out_dim=8, optimizer=torch.optim.AdamW)
    data = unlabeled_data(folder, batch_size=128)
    options = {"callbacks": callbacks, "logger": CSVLogger(str(folder)), "log_every_n_steps": 1}
    trainer = train(module, data, folder, max_epochs=2, **options)
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    logged = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    return SimpleNamespace(module=module, data=data, trainer=trainer, logged=logged, protocol=protocol)


@torch.no_grad()
def encode_by_hand(digits_run, loader) -> FeatureSet:
    digits_run.module.eval()
    columns = []
    for batch in loader:
        (view,), labels, index, _ = digits_run.data.prepare_batch(batch, CPU, augment=False)
        columns.append((digits_run.module.encoder(view), labels, index))
    return FeatureSet(*(torch.cat(column) for column in zip(*columns, strict=True)))


def test_probes_and_knn_read_the_labeled_stream(digits_run):
    bank, val = (
        encode_by_hand(digits_run, digits_run.data.bank_dataloader()),
        encode_by_hand(digits_run, digits_run.data.val_dataloader()),
    )
    assert len(bank.labels) == 540 and (bank.labels >= 0).all()
    hits = fit_probe(bank.features, bank.labels, 10).score_classes(val.features).argmax(1) == val.labels
    assert digits_run.logged["val/bank_probe_top1"][-1] == pytest.approx(float(hits.float().mean()), abs=0)
    assert digits_run.logged["val/knn5_top1"][-1] == knn_accuracy(val, bank, 10, k=5, temperature=0.1)
    assert len(digits_run.logged["val/bank_probe_top1"]) == 2
    assert not {"train/online_probe_top1", "val/online_probe_top1"} & digits_run.logged.keys()


def test_the_protocol_reads_the_labeled_stream(digits_run):
    bank, val = (
        encode_by_hand(digits_run, digits_run.data.bank_dataloader()),
        encode_by_hand(digits_run, digits_run.data.val_dataloader()),
    )
    probe = fit_probe(bank.features, bank.labels, 10)
    assert (
        digits_run.protocol.compute_accuracies(bank, probe, val, 10).items()
        <= {name.removeprefix("val/"): number for name, number in digits_run.protocol.numbers.items()}.items()
    )
    for prefix in ("", "untrained/", "pixels/"):
        for measure in ("knn5_top1", "probe_top1", "probe2_top1"):
            assert 0 <= digits_run.protocol.numbers[f"{prefix}val/{measure}"] <= 1
    digits_run.trainer.test(digits_run.module, datamodule=digits_run.data, verbose=False)
    assert 0 <= digits_run.protocol.numbers["test/probe_top1"] <= 1


# --- the real ones


def skip_without_arrays(name):
    if not (ROOT / "data" / name / "train_images.npy").is_file():
        pytest.skip(f"data/{name} is not there")


def test_mnist_itself():
    skip_without_arrays("mnist")
    data = set_up_data(MNIST(data_dir=ROOT / "data", fraction=0.1, batch_size=500))
    assert {name: len(split) for name, split in data.datasets.items()} == {
        "train": 5401, "val": 5999, "test": 10000
    }  # fmt: skip
    pixels = np.load(ROOT / "data" / "mnist" / "train_images.npy", mmap_mode="r") / np.float32(255)
    assert pixels.mean() == pytest.approx(data.mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(data.std[0], abs=1e-4)


def test_photographs_in_the_form_of_stl10():
    """Imagenette-96: 5,000 labeled and 5,469 unlabeled images."""
    skip_without_arrays("imagenette96")
    options = {"views": [Recipe(crop=64, flip=0.5)], "center_crop": 64, "unlabeled": 5000}
    data = Arrays("imagenette96", data_dir=ROOT / "data", train_on="unlabeled", **options)
    set_up_data(data, training=True)
    sizes = {"train": 5000, "bank": 4500, "val": 500, "test": 2500}
    assert {name: len(split) for name, split in data.datasets.items()} == sizes
    (view,), labels, *_ = transfer_batch(data, next(iter(data.train_dataloader())))
    assert view.shape == (256, 3, 64, 64) and (labels == -1).all()
    (center,), labels, *_ = data.prepare_batch(next(iter(data.val_dataloader())), CPU, augment=False)
    assert center.shape == (256, 3, 64, 64) and labels.min() >= 0
    assert torch.bincount(data.datasets["val"].labels).tolist() == [50] * 10
