"""What all figure callbacks share: when they draw, which examples they show, and class scores for any method."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from callbacks.evaluation.class_scores import find_linear_head
from callbacks.evaluation.features import Features
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.figures.attention import Attention
from callbacks.figures.base import FigureCallback
from callbacks.figures.cam import CAM
from callbacks.figures.cka import CKA
from callbacks.figures.clustering import Clustering
from callbacks.figures.confusion import Confusion
from callbacks.figures.feature_map import FeatureMap
from callbacks.figures.filters import Filters
from callbacks.figures.hardest import Hardest
from callbacks.figures.patch_map import PatchMap
from callbacks.figures.retrieval import Retrieval
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.style import (
    OTHER,
    PALETTE,
    class_colors,
    label_name,
    make_axes_grid,
    show_example,
    write_title,
)
from datamodules.arrays import Arrays
from datamodules.augmentation.recipe import Recipe
from ssl_modules.classifier import Classifier
from tests.conftest import PICTURES, command_line
from tests.methods import METHODS, build, train

DIGITS = Path(__file__).parent.parent / "configs" / "simclr_digits.yaml"


class Recorder(FigureCallback):
    """Records when it is called, and checks that the features of the split are there."""

    def __init__(self, every_n_epochs=0):
        super().__init__(every_n_epochs)
        self.calls = []

    def draw(self, trainer, module, split):
        assert len(Features.find_in(trainer).collect_split(trainer).features) == len(
            trainer.datamodule.datasets[split]
        )
        self.calls.append((trainer.current_epoch, split))


def build_tiny_arrays(data_dir, **options):
    case = METHODS[0]
    options = {"batch_size": 16, "mean": [case.mean], "std": [case.std], "views": [{}, {}]} | options
    options["views"] = [Recipe(**view) for view in options["views"]]
    return Arrays("tiny", data_dir=str(data_dir), **options)


def fit_tiny(data_dir, tmp_path, *callbacks, case=METHODS[0], **options):
    module = build(case)
    data = build_tiny_arrays(data_dir, views=[{}] * len(case.sizes), mean=[case.mean], std=[case.std])
    return train(module, data, tmp_path, callbacks=[Features(), *callbacks], **options)


@pytest.mark.parametrize(
    "options, epochs", [({"max_epochs": 5}, [1, 3, 4]), ({"max_epochs": 9, "max_steps": 15}, [1, 2])]
)
def test_figures_are_drawn_every_so_many_epochs_and_in_the_last(data_dir, tmp_path, options, epochs):
    callback = Recorder(2)
    fit_tiny(data_dir, tmp_path, callback, **options)
    assert callback.calls == [(epoch, "val") for epoch in epochs]


@pytest.mark.parametrize(
    "state, last",
    [
        ({"max_epochs": 10, "current_epoch": 8}, False),
        ({"max_epochs": 10, "current_epoch": 9}, True),
        ({"max_epochs": 100, "check_val_every_n_epoch": 3, "current_epoch": 95}, False),
        ({"max_epochs": 100, "check_val_every_n_epoch": 3, "current_epoch": 98}, True),
        ({"max_epochs": 10, "check_val_every_n_epoch": None, "current_epoch": 9}, True),
        ({"max_epochs": -1, "max_steps": 70, "global_step": 69}, False),
        ({"max_epochs": -1, "max_steps": 70, "global_step": 70}, True),
        ({"max_epochs": 10, "should_stop": True}, True),
    ],
)
def test_figures_and_neighbors_are_due_in_the_last_validation(state, last):
    running = {
        "should_stop": False,
        "max_steps": -1,
        "global_step": 5,
        "check_val_every_n_epoch": 1,
        "current_epoch": 6,
    }
    trainer = SimpleNamespace(**running | state)
    assert FigureCallback().is_due(trainer) == KNN(every_n_epochs=0).is_due(trainer) == last


def test_a_line_says_that_training_stopped_before_a_figure(data_dir, tmp_path, capsys):
    callback = Recorder()
    stop = EarlyStopping("train/loss", patience=1, min_delta=1e9, check_on_train_epoch_end=True)
    fit_tiny(data_dir, tmp_path, callback, stop, max_epochs=9)
    assert not callback.calls and "after 2 of 9 epochs" in callback.skip_reason


def test_the_test_that_ends_a_fit_is_for_numbers_alone(data_dir, tmp_path):
    callback = Recorder()
    trainer = fit_tiny(data_dir, tmp_path, callback)
    trainer.test(trainer.model, trainer.datamodule, verbose=False)
    assert callback.calls == [(0, "val")]
    fresh = Recorder()
    trainer = Trainer(
        callbacks=[Features(), fresh], logger=False, enable_progress_bar=False, accelerator="cpu"
    )
    module, data = build(METHODS[0]), build_tiny_arrays(data_dir)
    trainer.validate(module, data, verbose=False)
    trainer.test(module, data, verbose=False)
    assert [split for _, split in fresh.calls] == ["val", "test"]


def test_examples_are_those_asked_for_in_both_forms(data_dir, tmp_path):
    trainer = fit_tiny(data_dir, tmp_path)
    examples, data = load_examples(trainer, "val", [3, 0]), trainer.datamodule
    images, labels, _ = data.datasets["val"].__getitems__(torch.tensor([3, 0]).numpy())
    assert examples.display.tolist() == images.tolist() and examples.labels.tolist() == labels.tolist()
    assert examples.index.tolist() == [3, 0]
    assert len(load_examples(trainer, "bank", [0]).view) == 1


def test_every_class_has_its_share():
    labels = torch.tensor([2, 2, 2, 0, 0, 5, 2])
    assert pick_evenly(labels, 3).tolist() == [3, 0, 5]  # the first of each class, by class
    assert sorted(pick_evenly(labels, 5).tolist()) == [0, 1, 3, 4, 5]
    assert len(pick_evenly(labels, 100)) == len(labels)


@torch.no_grad()
def test_an_online_probe_that_saw_no_label_is_no_probe():
    encoder = SimpleNamespace(dim=4)
    module = SimpleNamespace(encoder=encoder, all_gather=lambda x: x, device=torch.device("cpu"))
    trainer, probe = SimpleNamespace(datamodule=SimpleNamespace(num_classes=3)), OnlineProbe()
    probe.setup(trainer, module, "fit")

    def step(labels):
        labels = torch.tensor(labels)
        outputs = {"features": torch.randn(len(labels), 4)}
        probe.on_train_batch_end(trainer, module, outputs, SimpleNamespace(labels=labels), 0)

    for labels in ([-1, -1, -1], [2]):  # of a single row it learns nothing
        step(labels)
        assert probe.to_linear_probe() is None and not probe.saw_labels()
    step([-1, 0, 2])
    assert probe.to_linear_probe() is not None and probe.saw_labels()


def test_any_method_has_class_scores(data_dir, tmp_path):
    probe = OnlineProbe()
    trainer = fit_tiny(data_dir, tmp_path, probe)
    module = trainer.lightning_module
    head, name = find_linear_head(trainer, module)
    features = Features.find_in(trainer).collect_split(trainer).features
    torch.testing.assert_close(
        head.score_classes(features), probe.score_classes(features), atol=1e-4, rtol=1e-4
    )
    assert name == "online probe"
    trainer = fit_tiny(data_dir, tmp_path)
    head, name = find_linear_head(trainer, trainer.lightning_module)
    assert head.weight.shape == (4, module.encoder.dim) and name == "linear probe"
    classifier = next(case for case in METHODS if case.method is Classifier)
    trainer = fit_tiny(data_dir, tmp_path, OnlineProbe(), case=classifier)
    module = trainer.lightning_module
    head, name = find_linear_head(trainer, module)
    assert torch.equal(head.weight, module.head.weight) and name == "classifier"


@pytest.mark.parametrize("method", ["SimCLR", "Autoencoder"])
def test_a_run_with_labels_on_validation_alone_finishes(own_dir, tmp_path, method):
    labels = own_dir / "tiny" / "train_labels.npy"
    for kind in ("images", "labels"):
        (own_dir / "tiny" / f"test_{kind}.npy").rename(own_dir / "tiny" / f"val_{kind}.npy")
    labels.unlink()
    case = next(case for case in METHODS if case.method.__name__ == method)
    callbacks = [CAM(), Confusion(), Hardest(count=2), FeatureMap(points=16), Retrieval(), CKA()]
    callbacks += [Attention(), PatchMap()]
    trainer = fit_tiny(own_dir, tmp_path, *callbacks, case=case)
    assert find_linear_head(trainer, trainer.lightning_module) is None
    drawn = {folder.name for folder in (tmp_path / "figures").iterdir()}
    assert drawn == {"cka", "tsne", "patch_map"} | ({"hardest"} if method == "Autoencoder" else set())


def test_beyond_ten_classes_the_frequent_keep_their_colors():
    assert class_colors(torch.arange(3).numpy(), 3) == list(PALETTE[:3])
    labels = torch.tensor([11] * 3 + [-1] * 9 + [k for k in range(10) for _ in range(k)])
    colors = class_colors(labels.numpy(), 12)
    assert len(colors) == 12 and colors[11] != OTHER and colors[0] == OTHER and len(set(colors)) == 10


def test_pictures_and_texts_are_shown():
    figure, axes = make_axes_grid(1, 2)
    show_example(axes[0, 0], torch.zeros(4, 4, 1).byte().numpy(), "gray", frame="#bd1f01")
    show_example(axes[0, 1], "it is a text")
    write_title(figure, "Both", "an image and a text")
    assert [t.get_text() for t in axes[0, 1].texts] == ["it is a text"] and len(axes[0, 0].images) == 1
    assert label_name(["a", "b"], -1) == "?" and label_name(["a", "b"], 1) == "b"


@pytest.mark.slow
@pytest.mark.usefixtures("untouched_process")
def test_validate_draws_a_checkpoint_of_a_run_without_figures(tmp_path):
    given = ["--runs_dir", tmp_path, "--trainer.accelerator", "cpu", "--trainer.max_steps", 2]
    given += ["--without", f"[WandbLogger, Protocol, Views, KNN, Collapse, {PICTURES}]"]
    assert command_line("fit", "--config", DIGITS, *given, "--test_after_fit", "false") == 0
    run = tmp_path / "simclr_digits" / "version_0"
    callbacks = CAM, Confusion, Hardest, Filters, FeatureMap, Retrieval, Clustering, CKA, PatchMap
    more = [
        part
        for callback in callbacks
        for part in ("--trainer.callbacks+", f"{callback.__module__}.{callback.__name__}")
    ]
    checkpoint = ["--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    assert command_line("validate", *checkpoint, "--runs_dir", tmp_path, *more) == 0
    pictures = run.with_name("version_1").glob("figures/*/epoch=*.png")
    kinds = {picture.parent.name.partition(".")[0] for picture in pictures}
    assert kinds == {
        "cam",
        "confusion",
        "hardest",
        "filters",
        "tsne",
        "retrieval",
        "clustering",
        "cka",
        "patch_map",
    }
