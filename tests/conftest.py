import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import cli
from common.batch import Batch, BatchKey
from datamodules.cifar10 import CIFAR10
from datamodules.mnist import MNIST
from datamodules.stl10 import STL10
from datamodules.storage.layout import write_arrays
from tests.galaxies import write_galaxies
from tests.methods import METHODS, build
from tests.report_runs import make_run, write_seed  # noqa: F401 (fixtures)
from tests.tweets import write_tweets

CLASSES = ["circle", "line", "square", "star"]

# default callbacks that draw when training ends: they have tests of their own, and other runs are faster without them
PICTURES = (
    "Curves, FeatureMap, Retrieval, CAM, Attention, PatchMap, Filters, Hardest, Confusion, CKA, Reconstructions, "
    "Samples, Latents"
)


def pytest_addoption(parser):
    parser.addoption("--device", default="cuda", help="what tests marked gpu run on")


def pytest_collection_modifyitems(items):
    """The longest first, so that no process has it for the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session", autouse=True)
def quiet_world():
    """No test talks to Weights & Biases or opens a window, nor does a process it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("MPLBACKEND", "Agg")
        matplotlib.use("Agg")
        yield


def random_split(count: int, size: int = 16, channels: int = 3, classes: int = 4, seed: int = 0):
    """Images uint8 (N, S, S, C), noise around a color that the class has, and labels, as many of each class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    colors = np.random.default_rng(0).integers(40, 216, (classes, 1, 1, channels))
    images = colors[labels] + rng.integers(-40, 40, (count, size, size, channels))
    return images.astype(np.uint8), labels.astype(np.int64)


def write_random(
    folder: Path, train: int = 96, test: int = 32, classes: list[str] = CLASSES, unlabeled: int = 0, **shape
) -> None:
    """A small data set in the array layout."""
    arrays = {}
    for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
        images, labels = random_split(count, classes=len(classes), seed=seed, **shape)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    if unlabeled:
        arrays["unlabeled_images"], _ = random_split(unlabeled, classes=len(classes), seed=2, **shape)
    write_arrays(folder, arrays, classes)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Holds `tiny`, 96 training and 32 test images, 16x16x3, 4 classes, and `tweets`. Not to be written to."""
    folder = tmp_path_factory.mktemp("data")
    write_random(folder / "tiny")
    write_tweets(folder / "tweets")
    return folder


@pytest.fixture
def own_dir(tmp_path) -> Path:
    """The same, for a test that spoils it."""
    write_random(tmp_path / "data" / "tiny")
    return tmp_path / "data"


@pytest.fixture(params=METHODS, ids=lambda case: case.method.__name__)
def case(request):
    return request.param


@pytest.fixture
def method(case):
    return build(case)


@pytest.fixture
def batch(case):
    """As many random views of 12 images as the method needs, or one of 12 tweets, every label known."""
    generator = torch.Generator().manual_seed(1)
    if case.text:
        view = torch.randint(32, 127, (12, 20), generator=generator)
        view[torch.arange(20) > torch.arange(7, 19)[:, None]] = 0  # 8 to 19 characters
        return Batch([view], torch.arange(12) % 2, torch.arange(12), BatchKey.single(7, 12))
    pixels = [torch.rand(12, 3, size, size, generator=generator) for size in case.sizes]
    views = [(p - case.mean) / case.std for p in pixels]
    return Batch(views, torch.arange(12) % 4, torch.arange(12), BatchKey.single(7, 12))


def command_line(*args: str) -> int:
    """Exit status of `python cli.py ARGS`, in this process."""
    try:
        return cli.main([str(arg) for arg in args])
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A folder with a small stand-in for every data set that configs name; Digits bring their own."""
    folder = tmp_path_factory.mktemp("small")
    write_random(folder / "cifar10", train=120, test=20, classes=CIFAR10.class_names, size=32)
    write_random(folder / "mnist", train=120, test=20, classes=MNIST.class_names, size=28, channels=1)
    write_random(folder / "stl10", train=60, test=20, classes=STL10.class_names, size=96, unlabeled=40)
    write_random(folder / "imagenette96", train=60, test=20, size=96, unlabeled=40)
    write_galaxies(folder / "galaxyzoo", count=80)
    write_tweets(folder / "tweets", unlabeled=60)
    return folder


@pytest.fixture
def untouched_process(monkeypatch):
    """The command line sets sys.argv, seeds and how warnings are shown: none of it stays."""
    monkeypatch.setattr(sys, "argv", ["cli.py"])
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    with warnings.catch_warnings():
        yield
