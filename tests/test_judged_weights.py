"""Without `--ckpt_path`, the weights that the config names are judged, or nothing is."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from launch.judged_encoder import JudgedEncoder
from tests.errors import read_error, refused_in_one_line
from tests.methods import METHODS, build
from tests.small_runs import newest_run, run_small, train_small

pytestmark = pytest.mark.usefixtures("untouched_process")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """(config, runs, last.ckpt) of a finished run."""
    config, runs = train_small(tmp_path_factory.mktemp("trained"), data_dir)
    return config, runs, runs / "small/version_0/checkpoints/last.ckpt"


def read_row(run) -> dict[str, str]:
    """The protocol's numbers and what else was logged, of one evaluation."""
    with open(run / "metrics.csv", newline="") as file:
        return {name: value for row in csv.DictReader(file) for name, value in row.items() if value}


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_random_weights_are_not_judged(verb, trained, tmp_path, capsys):
    config, *_ = trained
    args = verb, "--config", config, *(() if verb == "predict" else ("--runs_dir", tmp_path / "runs"))
    assert f"{verb} needs weights" in read_error(capsys, *args)
    assert "no such file" in read_error(capsys, *args, "--model.init_args.ckpt", "nowhere.ckpt")
    assert not list(tmp_path.glob("runs/small/*"))


@pytest.mark.parametrize("verb, split", [("validate", "val"), ("test", "test")])
def test_the_encoder_of_ckpt_has_the_numbers_of_its_run(verb, split, trained, tmp_path):
    config, _, ckpt = trained
    rows = []
    for place in ("--ckpt_path", "--model.init_args.ckpt"):
        config_of_all = config.read_text().replace("Protocol, ", "")
        (tmp_path / "small.yaml").write_text(config_of_all)
        assert run_small(verb, tmp_path / "small.yaml", tmp_path / "runs", place, ckpt) == 0
        rows.append(read_row(newest_run(tmp_path / "runs")))
    names = [
        f"{floor}{split}/{measure}"
        for floor in ("", "untrained/")
        for measure in ("probe_top1", "knn20_top1")
    ]
    assert [rows[0][name] for name in names] == [rows[1][name] for name in names]
    assert f"{split}/loss" not in rows[1]  # of a projector that has learned nothing


def test_features_of_ckpt_are_those_of_its_run(trained, tmp_path):
    config, _, ckpt = trained
    features = []
    for place in ("--ckpt_path", "--model.init_args.ckpt"):
        output = tmp_path / f"{place.strip('-')}.npz"
        assert run_small("predict", config, tmp_path / "runs", place, ckpt, "--output", output) == 0
        features.append(np.load(output)["features"])
    assert np.array_equal(*features) and features[0].std() > 0


def test_pretrained_weights_are_judged_as_they_are():
    method = build(METHODS[0])
    with refused_in_one_line("test needs weights"):
        JudgedEncoder(method, "test")
    method.encoder.pretrained = True
    judged = JudgedEncoder(method, "test")
    assert judged.encoder is method.encoder and not any(isinstance(m, nn.Linear) for m in judged.children())
    assert {name.split(".")[0] for name in judged.state_dict()} == {"encoder"}
    with torch.no_grad():
        view = torch.rand(2, 3, 16, 16)
        assert torch.equal(judged.eval().encode(view), method.eval().encode(view))
