"""A checkpoint with weights that are not finite, or whose features are not: every verb refuses it in one line."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_modules.rotnet import RotNet
from ssl_modules.weights import check_finite_weights
from tests.errors import read_error
from tests.runs import write_run

pytestmark = pytest.mark.usefixtures("untouched_process")
RESNET = {"class_path": "ssl_modules.networks.resnet.ResNet", "init_args": {"widths": [8], "blocks": [1]}}
BROKEN = {  # name of a weight of the checkpoint: the value of its first number
    "encoder.stem.0.weight": float("nan"),
    "encoder.stages.0.residual.1.running_var": float("inf"),
}
QUIET = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.logger", "false")


def break_weights(ckpt: Path, changes: dict[str, float]) -> Path:
    """A copy of a checkpoint beside it, with the first number of some weights changed."""
    checkpoint = torch.load(ckpt, weights_only=True)
    for name, value in changes.items():
        weight = checkpoint["state_dict"][name]
        weight[(0,) * weight.ndim] = value
    torch.save(checkpoint, ckpt.with_name("broken.ckpt"))
    return ckpt.with_name("broken.ckpt")


@pytest.fixture
def ckpt(tmp_path, data_dir):
    return write_run(tmp_path / "run" / "version_0", RESNET, data_dir)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "verb", ["fit", "validate", "test", "predict", "export", "export onnx", "ckpt", "judge"]
)
def test_weights_that_are_not_finite_are_refused_in_one_line(verb, name, ckpt, tmp_path, capsys):
    broken, out = break_weights(ckpt, {name: BROKEN[name]}), tmp_path / "out"
    config = ["--config", ckpt.parent.parent / "config.yaml", "--runs_dir", out, *QUIET]
    arguments = {
        "export": ["export", "--ckpt_path", broken, "--output", out],
        "export onnx": ["export", "--ckpt_path", broken, "--output", out, "--onnx", "true"],
        "predict": ["predict", *config, "--ckpt_path", broken, "--output", out / "features.npz"],
        "ckpt": ["fit", *config, "--model.init_args.ckpt", broken],
        "judge": ["predict", *config, "--model.init_args.ckpt", broken, "--output", out / "features.npz"],
    }.get(verb, [verb, *config, "--ckpt_path", broken])
    error = read_error(capsys, *arguments)
    shown = name if verb in ("fit", "validate", "test", "predict") else name.removeprefix("encoder.")
    assert f"NaN or infinity in 1 weight ({shown})" in error and "earlier checkpoint" in error
    assert not [
        path for path in out.rglob("*") if path.suffix in (".npz", ".safetensors", ".json", ".onnx", ".ckpt")
    ]


OVERFLOW = {"encoder.stem.1.weight": 3e38, "encoder.stages.0.residual.0.weight": 3e38}


@pytest.mark.parametrize("onnx", ["false", "true"])
def test_an_encoder_whose_features_overflow_is_not_exported(onnx, ckpt, tmp_path, capsys):
    broken = break_weights(ckpt, OVERFLOW)
    error = read_error(capsys, "export", "--ckpt_path", broken, "--output", tmp_path / "out", "--onnx", onnx)
    assert f"{broken}: its encoder's weights are finite and its features of noise are not" in error
    assert not (tmp_path / "out").exists()


def test_an_image_whose_features_overflow_is_named(ckpt, tmp_path, capsys):
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    args = ["predict", "--config", ckpt.parent.parent / "config.yaml", "--images", tmp_path, *QUIET]
    args += ["--ckpt_path", break_weights(ckpt, OVERFLOW)]
    assert "features of row 0 (0.png) are not finite in precision 32-true" in read_error(capsys, *args)
    assert not list(ckpt.parent.glob("*.npz")) and not list(ckpt.parent.glob("*.parts"))


@pytest.mark.parametrize("written", [False, True])
def test_a_row_whose_features_are_not_finite_is_named_and_no_part_stays(
    written, ckpt, tmp_path, capsys, monkeypatch
):
    step = RotNet.predict_step

    def spoil_row_33(self, batch, batch_idx):
        features = step(self, batch, batch_idx)
        features[batch.index == 33, 2] = float("inf")
        return features

    monkeypatch.setattr(RotNet, "predict_step", spoil_row_33)
    monkeypatch.setattr("launch.feature_shards.EVERY", 0.0 if written else 1e9)  # whether parts come first
    args = ["predict", "--config", ckpt.parent.parent / "config.yaml", "--split", "train", *QUIET]
    error = read_error(capsys, *args, "--ckpt_path", ckpt, "--output", tmp_path / "features.npz")
    assert "predict: the features of row 33 are not finite in precision 32-true" in error
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_infinite_by_design_is_no_broken_weight():
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    check_finite_weights(module, copy.deepcopy(module.state_dict()), "it")
