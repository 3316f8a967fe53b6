"""`cli.py predict`: the features are those of the encoder, in order, whole, and whatever cut the run off."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image

import launch.feature_shards
import launch.predict
from datamodules.image_folder import ImageFolder
from tests.conftest import command_line
from tests.errors import refused_in_one_line
from tests.folders import CLASSES, write_folders
from tests.runs import data_of, model_of, trainer_of, write_run

ROOT = Path(__file__).parent.parent
RESNET = {"class_path": "ssl_modules.networks.resnet.ResNet", "init_args": {"widths": [8], "blocks": [1]}}
LSTM = {"class_path": "ssl_modules.networks.char_lstm.CharLSTM", "init_args": {"hidden_dim": 8}}


@pytest.fixture(scope="module")
def ckpts(tmp_path_factory, data_dir):
    """Of a ResNet (False) and of a network that reads text (True)."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        text: write_run(folder / str(text) / "version_0", spec, data_dir, text)
        for text, spec in ((False, RESNET), (True, LSTM))
    }


def features_of(ckpt, data_dir, tmp_path, text=False, data=None, precision="32-true", **options):
    """Run the verb, past the command line."""
    model = model_of(LSTM if text else RESNET, text)
    data = data or data_of(data_dir, text)
    options = {"output": str(tmp_path / "features.npz")} | options
    trainer_of(tmp_path, precision=precision).predict(model, data, ckpt_path=str(ckpt), **options)
    return np.load(options["output"])


def expected(ckpt, data, split, text=False, precision=None):
    """Each example through the checkpoint's encoder, a batch of the split's own order."""
    encoder = model_of(LSTM if text else RESNET, text).encoder
    weights = torch.load(ckpt, weights_only=True)["state_dict"].items()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights if k.startswith("encoder.")})
    data.setup("test")
    positions = np.arange(len(data.datasets[split]))
    (view,), labels, *_ = data.read_batch(split, positions, torch.device("cpu"))
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
    with torch.no_grad(), bf16:
        return encoder.eval()(view).float(), labels


@pytest.mark.parametrize("split, text", [("val", False), ("test", False), ("train", False), ("test", True)])
def test_features_are_the_encoders_in_the_order_of_the_split(split, text, ckpts, data_dir, tmp_path):
    output = features_of(ckpts[text], data_dir, tmp_path, text, split=split)
    features, labels = expected(ckpts[text], data_of(data_dir, text), split, text)
    assert output["features"].dtype == np.float32
    np.testing.assert_allclose(output["features"], features, atol=1e-6)
    np.testing.assert_array_equal(output["labels"], labels)
    np.testing.assert_array_equal(output["index"], np.arange(len(labels)))
    assert "names" not in output and not list(tmp_path.glob("*.parts"))


def test_features_have_the_trainers_precision(ckpts, data_dir, tmp_path):
    features = features_of(ckpts[False], data_dir, tmp_path, precision="bf16-mixed")["features"]
    exact, rounded = (
        expected(ckpts[False], data_of(data_dir), "val", precision=p)[0] for p in (None, "bf16-mixed")
    )
    assert abs(features - rounded.numpy()).max() < abs(features - exact.numpy()).max()


@pytest.mark.parametrize("text", [False, True])
def test_cut_off_it_goes_on_where_it_stopped(text, ckpts, data_dir, tmp_path, monkeypatch):
    whole = features_of(
        ckpts[text], data_dir, tmp_path, text, split="train", output=str(tmp_path / "whole.npz")
    )
    monkeypatch.setattr(launch.feature_shards, "EVERY", 0.0)
    kind, calls = type(model_of(LSTM if text else RESNET, text)), []
    step = kind.predict_step

    def failing(self, batch, batch_idx):
        calls.append(batch[2].tolist())
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(kind, "predict_step", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        features_of(ckpts[text], data_dir, tmp_path, text, split="train")
    parts = tmp_path / "features.parts"
    assert len(list(parts.glob("[0-9]*.npz"))) == 3 and not (tmp_path / "features.npz").exists()
    (parts / ".part-000000003-000000004.npz").write_bytes(b"cut off while it was written")
    resumed = features_of(ckpts[text], data_dir, tmp_path, text, split="train")
    assert calls[4] == calls[3] and calls[:3] == [c for c in calls[:3] if c not in calls[4:]]  # nothing twice
    for name in ("features", "labels", "index"):
        np.testing.assert_array_equal(resumed[name], whole[name])
    assert not parts.exists()


KILLED = """
import os, signal, sys
import launch.feature_shards
from ssl_modules.rotnet import RotNet
launch.feature_shards.EVERY, step, calls = 0.0, RotNet.predict_step, []
def deadly(self, batch, batch_idx):
    calls.append(batch_idx)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
RotNet.predict_step = deadly
import cli
from common.batch import BatchKey
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_it_goes_on_where_it_stopped(ckpts, tmp_path):
    ckpt, output = ckpts[False], tmp_path / "features.npz"
    args = [
        "predict",
        "--config",
        ckpt.parent.parent / "config.yaml",
        "--ckpt_path",
        ckpt,
        "--split",
        "train",
    ]
    args += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--output", output]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, args)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL and not output.exists()
    assert len(list((tmp_path / "features.parts").glob("[0-9]*.npz"))) == 3
    assert command_line(*args) == 0
    resumed = np.load(output)
    args[-1] = tmp_path / "whole.npz"
    assert command_line(*args) == 0
    for name in ("features", "labels", "index"):
        np.testing.assert_array_equal(resumed[name], np.load(args[-1])[name])


def test_complete_output_is_left_alone_and_other_files_refused(ckpts, data_dir, tmp_path, monkeypatch):
    features_of(ckpts[False], data_dir, tmp_path)
    before = (tmp_path / "features.npz").stat().st_mtime_ns
    monkeypatch.setattr(
        "lightning.pytorch.Trainer.predict", lambda *args, **kwargs: pytest.fail("encoded again")
    )
    features_of(ckpts[False], data_dir, tmp_path)
    assert (tmp_path / "features.npz").stat().st_mtime_ns == before
    with pytest.raises(MisconfigurationException, match=r"made with another split .*--output"):
        features_of(ckpts[False], data_dir, tmp_path, split="test")
    with pytest.raises(MisconfigurationException, match="another first_and_last"):
        features_of(ckpts[False], data_dir, tmp_path, data=data_of(data_dir, size=8))
    (tmp_path / "features.npz").write_bytes(b"something else")
    with pytest.raises(MisconfigurationException, match="another checkpoint"):
        features_of(ckpts[False], data_dir, tmp_path)


def test_a_folder_of_images_is_decoded_as_the_stored_ones(ckpts, tmp_path):
    write_folders(tmp_path / "mine", 4)
    data = ImageFolder("mine", data_dir=tmp_path, size=16, val_size=0, batch_size=5)
    shutil.copytree(tmp_path / "mine", tmp_path / "elsewhere" / "deeper")
    split = features_of(
        ckpts[False], None, tmp_path, data=data, split="train", output=str(tmp_path / "split.npz")
    )
    decoded = features_of(ckpts[False], None, tmp_path, data=data, images=str(tmp_path / "elsewhere"))
    names = [f"{name}/{k}.{'png' if k % 2 else 'JPG'}" for name in sorted(CLASSES) for k in range(4)]
    assert split["names"].tolist() == names  # files of a split have names, too
    assert decoded["names"].tolist() == [f"deeper/{name}" for name in names]
    np.testing.assert_allclose(decoded["features"], split["features"], atol=1e-6)
    assert (decoded["labels"] == -1).all()


def test_an_image_that_cannot_be_decoded_is_named_or_left_out(ckpts, data_dir, tmp_path, caplog):
    for k in range(7):
        Image.new("RGB", (20, 20), (30 * k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(MisconfigurationException, match=r"3\.png cannot be decoded .*--on_bad_image skip"):
        features_of(ckpts[False], data_dir, tmp_path, images=str(tmp_path))
    decoded = features_of(ckpts[False], data_dir, tmp_path, images=str(tmp_path), on_bad_image="skip")
    assert decoded["names"].tolist() == [f"{k}.png" for k in range(7) if k != 3]


@pytest.mark.parametrize(
    "options, named",
    [
        ({"split": "bank", "output": "features.txt"}, "ends in .npz"),
        ({"images": "nowhere"}, "no folder"),
        ({"ckpt": "nowhere.ckpt"}, "nowhere.ckpt: no such file"),
        ({"ckpt": ""}, "needs weights"),
        ({"text": True, "images": "nowhere"}, "Tweets reads no images"),
        ({"text": True, "split": "unlabeled"}, "Tweets has bank, test, train, val"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(options, named, ckpts, data_dir, tmp_path):
    given = {"ckpt": ckpts[options.get("text", False)]} | options
    with refused_in_one_line(named):
        features_of(given.pop("ckpt"), data_dir, tmp_path, **given)


def test_predict_writes_beside_the_checkpoint_without_a_run_folder(
    ckpts, tmp_path, capsys, untouched_process
):
    ckpt = ckpts[False]
    args = ["--config", ckpt.parent.parent / "config.yaml", "--runs_dir", tmp_path / "runs"]
    args += ["--split", "bank"]
    args += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    assert command_line("predict", *args, "--ckpt_path", ckpt) == 0
    assert "Predicting" in capsys.readouterr().out  # a bar, which says how long it will take
    assert np.load(ckpt.with_name("last_bank.npz"))["features"].shape[1] == 8
    assert not (tmp_path / "runs").exists()
    assert command_line("predict", *args) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: predict needs weights")
