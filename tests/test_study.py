"""One command validates every kept checkpoint of a run and draws two measures of them together."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from lightning.pytorch import Callback

from callbacks.checkpointing.checkpoints import Checkpoints, list_kept_checkpoints
from callbacks.figures.base import FigureCallback
from callbacks.figures.cka import CKA
from callbacks.figures.clustering import Clustering
from callbacks.figures.reconstructions import Reconstructions
from callbacks.figures.study import Study, describe_metric, draw_study
from callbacks.loggers.csv import CSVLogger
from datamodules.cifar10 import CIFAR10
from tests.conftest import PICTURES, command_line, write_random

pytestmark = pytest.mark.usefixtures("untouched_process")

CONFIG = Path(__file__).parent.parent / "configs" / "conv_autoencoder_cifar10.yaml"
CHECKPOINTS = (
    "{class_path: callbacks.checkpointing.checkpoints.Checkpoints, init_args: {keep_every_n_epochs: 1}}"
)
STUDY = "callbacks.figures.study.Study"
PROTOCOL = "{class_path: callbacks.evaluation.protocol.Protocol, init_args: {draws: 1}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of an autoencoder's run of three epochs, each with a checkpoint, that no figure was drawn of."""
    folder = tmp_path_factory.mktemp("study")
    write_random(folder / "data" / "cifar10", train=60, test=20, classes=CIFAR10.class_names, size=32)
    options = ["--data.init_args.data_dir", folder / "data", "--data.init_args.batch_size", 16]
    options += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", 3]
    without = f"[WandbLogger, Protocol, KNN, TQDMProgressBar, {PICTURES}]"
    options += ["--runs_dir", folder / "runs", "--without", without]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cli.py"])
        assert command_line("fit", "--config", CONFIG, *options, "--trainer.callbacks+", CHECKPOINTS) == 0
    return folder / "runs" / "conv_autoencoder_cifar10" / "version_0"


def validate(run: Path, tmp_path: Path, ckpt_path: Path, *callbacks: str) -> tuple[int, Path]:
    """Exit status, and the new run's folder."""
    more = [part for callback in callbacks for part in ("--trainer.callbacks+", callback)]
    options = ["--config", run / "config.yaml", "--ckpt_path", ckpt_path, "--runs_dir", tmp_path, *more]
    return command_line("validate", *options), tmp_path / run.parent.name / "version_0"


def test_checkpoints_are_kept_on_a_disk_without_links(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    checkpoints = Checkpoints(keep_every_n_epochs=1)
    checkpoints.folder = tmp_path
    (tmp_path / "last.ckpt").write_text("weights")
    checkpoints.keep_epoch(SimpleNamespace(current_epoch=1))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("last.ckpt", "epoch=1.ckpt"), "weights"
    )


def test_kept_checkpoints_are_found_in_the_order_of_their_epochs(tmp_path):
    for name in ("epoch=10.ckpt", "epoch=9.ckpt", "last.ckpt", "epoch=9-v1.ckpt", "epoch=11.ckpt.part"):
        (tmp_path / name).touch()
    assert [path.name for path in list_kept_checkpoints(tmp_path)] == ["epoch=9.ckpt", "epoch=10.ckpt"]


def test_all_checkpoints_of_a_run_are_in_one_picture(run, tmp_path):
    reconstructions = "callbacks.figures.reconstructions.Reconstructions"
    status, folder = validate(run, tmp_path, run / "checkpoints", reconstructions, PROTOCOL, STUDY)
    assert status == 0
    trained, studied = (CSVLogger(str(path)).read_series() for path in (run, folder))
    epoch, step, mse = studied["val/reconstruction_mse"].T
    assert epoch.tolist() == [1, 2, 3] and step.tolist() == [3, 6, 9]  # of checkpoints, not of this run
    # weights are each checkpoint's; the network reads pixels in [-1, 1]
    np.testing.assert_allclose(4 * mse, trained["val/loss"][:, 2], rtol=1e-5)
    np.testing.assert_allclose(
        studied["val/effective_rank"][:, 2], trained["val/effective_rank"][:, 2], rtol=1e-3
    )
    assert len(studied["val/probe_top1"]) == 3 and len(studied["untrained/val/probe_top1"]) == 1
    (picture,) = (folder / "figures" / "study").glob("*.png")
    with np.load(picture.with_suffix(".npz")) as data:
        assert data["epochs"].tolist() == [1, 2, 3]
        np.testing.assert_array_equal(data["left"], studied["train/reconstruction_mse"][:, 2])
        np.testing.assert_array_equal(data["right"], studied["val/probe_top1"][:, 2])
    names = {path.name for path in (folder / "figures" / "reconstructions").glob("*.png")}
    assert names == {f"epoch={n}.png" for n in (1, 2, 3)}
    assert "</html>" in (folder / "report.html").read_text()


def test_of_several_checkpoints_the_last_and_the_due_are_drawn():
    def list_drawn_epochs(callback: FigureCallback, *others: Callback) -> list[int]:
        paths = [Path(f"epoch={n}.ckpt") for n in (1, 2, 3)]
        epochs = []
        for epoch, path in enumerate(paths, start=1):
            trainer = SimpleNamespace(checkpoints=paths, ckpt_path=str(path), current_epoch=epoch)
            trainer.callbacks = [callback, *others]
            epochs += [epoch] * callback.due_for_checkpoint(trainer)
        return epochs

    assert list_drawn_epochs(CKA()) == list_drawn_epochs(CKA(), Study()) == [3]
    assert list_drawn_epochs(CKA(every_n_epochs=2)) == [2, 3]
    assert list_drawn_epochs(CKA(every_n_epochs=1)) == [1, 2, 3]
    assert list_drawn_epochs(Reconstructions()) == [3]
    assert list_drawn_epochs(Reconstructions(), Study()) == [1, 2, 3]
    assert list_drawn_epochs(Reconstructions(), Study(left="val/loss")) == [3]
    assert list_drawn_epochs(Clustering(), Study(right="val/nmi")) == [1, 2, 3]
    single = SimpleNamespace(ckpt_path="epoch=1.ckpt")
    assert CKA().due_for_checkpoint(single)


def test_a_metric_that_nobody_logged_is_named(run, tmp_path):
    with pytest.warns(
        UserWarning, match="no train/reconstruction_mse and no val/probe_top1; logged were .*val/loss"
    ):
        status, folder = validate(run, tmp_path, run / "checkpoints", STUDY)
    assert status == 0 and not (folder / "figures" / "study").exists()


def test_one_checkpoint_keeps_its_epoch_and_step(run, tmp_path):
    (tmp_path / "alone").mkdir()
    last = shutil.copy(run / "checkpoints" / "epoch=2.ckpt", tmp_path / "alone" / "last.ckpt")
    status, folder = validate(run, tmp_path, last, "callbacks.figures.cka.CKA", STUDY)
    assert status == 0 and (folder / "figures" / "cka" / "epoch=2.png").exists()
    assert not (folder / "figures" / "study").exists()
    assert CSVLogger(str(folder)).read_series()["val/loss"][:, :2].tolist() == [[2, 6]]


def test_a_folder_without_kept_checkpoints_is_refused_in_one_line(run, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "none")
    status, folder = validate(run, tmp_path, tmp_path / "none")
    error = capsys.readouterr().err
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert "no epoch=N.ckpt" in error and "keep_every_n_epochs" in error and not folder.exists()


def test_only_validate_takes_a_folder(run, tmp_path, capsys):
    options = ["--config", run / "config.yaml", "--runs_dir", tmp_path]
    assert command_line("test", *options, "--ckpt_path", run / "checkpoints") == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("right, rank", [([3.0, 2.0, 1.0], -1), ([1.0, 5.0, 9.0], 1), ([1.0, 9.0, 5.0], 0.5)])
def test_the_rank_correlation_is_spearmans(right, rank):
    _, correlation = draw_study(np.arange(3), np.array([0.1, 0.2, 0.3]), np.array(right), ("left", "right"))
    assert correlation == pytest.approx(rank, abs=1e-5)


def test_metrics_are_called_by_words_and_accuracies_are_per_cent():
    assert describe_metric("val/probe_top1") == ("probe accuracy, validation, %", 100)
    assert describe_metric("train/reconstruction_mse") == ("reconstruction error (mse), training", 1)
    figure, _ = draw_study(np.arange(3), np.ones(3), np.array([0.1, 0.2, 0.3]), ("train/loss", "val/top1"))
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [10, 20, 30])


def test_the_run_says_what_was_validated(run, tmp_path):
    _, folder = validate(run, tmp_path, run / "checkpoints")
    assert yaml.safe_load((folder / "config.yaml").read_text())["ckpt_path"] == str(run / "checkpoints")
