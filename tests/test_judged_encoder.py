"""`encoder` is judged, exported and moved by `ckpt`: of DINO the teacher, from its first weights to its last."""

import json

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from safetensors.torch import load_file

from callbacks.evaluation.features import Features
from callbacks.evaluation.protocol import Protocol
from tests.conftest import command_line
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.test_methods import tiny

DINO, SIMCLR = find_case("DINO"), find_case("SimCLR")
ENCODER = {"class_path": "ssl_modules.networks.resnet.ResNet"}
ENCODER["init_args"] = {"widths": [8, 16], "blocks": [1, 1], "norm": "batch"}  # as in methods.py


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.5)


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A trained DINO, and the path of its checkpoint in a run folder."""
    folder = tmp_path_factory.mktemp("dino") / "version_0"
    method = build(DINO, optimizer=sgd)
    trainer = train(method, tiny(data_dir, DINO), folder, max_epochs=2)
    trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert all(
        not torch.equal(teacher, student)
        for teacher, student in zip(method.encoder.parameters(), method.student.parameters(), strict=True)
    )
    views = [{"copies": 2, "size": 16}, {"copies": 3, "size": 8}]
    data = {"name": "tiny", "data_dir": str(data_dir), "mean": [DINO.mean], "std": [DINO.std], "views": views}
    arguments = {"encoder": ENCODER, "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}}}
    config = {
        "model": {"class_path": "ssl_modules.dino.DINO", "init_args": arguments | DINO.arguments},
        "data": {"class_path": "datamodules.arrays.Arrays", "init_args": data},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text('{"image_size": [16, 16, 3]}')
    return method, folder / "checkpoints" / "last.ckpt"


class NoteEncoder(Callback):
    """The encoder's weights when training starts."""

    def on_train_start(self, trainer, module):
        self.weights = {name: value.clone() for name, value in module.encoder.state_dict().items()}


def test_another_method_starts_from_the_teacher(run, data_dir, tmp_path):
    dino, path = run
    method, start = build(SIMCLR, ckpt=str(path)), NoteEncoder()
    train(method, tiny(data_dir, SIMCLR), tmp_path, callbacks=[start], max_steps=1)
    assert start.weights.keys() == dino.encoder.state_dict().keys()
    for name, value in dino.encoder.state_dict().items():
        assert torch.equal(start.weights[name], value), name


@pytest.mark.usefixtures("untouched_process")
def test_export_writes_the_teacher(run, tmp_path):
    dino, path = run
    assert command_line("export", "--ckpt_path", path, "--output", tmp_path) == 0
    weights, card = (
        load_file(tmp_path / "encoder.safetensors"),
        json.loads((tmp_path / "card.json").read_text()),
    )
    assert weights.keys() == dino.encoder.state_dict().keys()
    for name, value in dino.encoder.state_dict().items():
        assert torch.equal(weights[name], value), name
    assert card["method"] == "ssl_modules.dino.DINO" and card["input"]["shape"] == ["B", 3, 16, 16]


def test_the_floor_is_the_first_encoder_and_numbers_the_teacher_s(data_dir, tmp_path):
    protocol, method = Protocol(draws=1, k=5), build(DINO, optimizer=sgd)
    trainer = train(method, tiny(data_dir, DINO), tmp_path, callbacks=[Features(), protocol], max_epochs=2)
    first = build(DINO).encoder.state_dict()
    for name, value in protocol.untrained.state_dict().items():
        assert torch.equal(value, first[name]), name
    assert any(not torch.equal(value, first[name]) for name, value in method.encoder.state_dict().items())
    assert {"val/probe_top1", "untrained/val/probe_top1", "pixels/val/knn5_top1"} <= protocol.numbers.keys()
    # of the teacher, whose features on validation those of the step are
    features, (batch,) = Features.find_in(trainer), list(trainer.datamodule.batches("val", method.device))
    method.eval()
    with torch.no_grad():
        expected = method.encoder(batch.views[0])
    torch.testing.assert_close(features.collect_split(trainer).features, expected, atol=1e-5, rtol=1e-5)


def test_the_untrained_floor_is_the_seed_s_where_ckpt_is_given(run, data_dir, tmp_path):
    _, path = run
    protocol = Protocol(draws=1, k=5)
    method = build(DINO, ckpt=str(path))
    train(method, tiny(data_dir, DINO), tmp_path, callbacks=[Features(), protocol])
    first = build(DINO).encoder.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in protocol.untrained.state_dict().items())
