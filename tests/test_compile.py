"""What `compile: true` promises: faster steps at most; the same weights, names, checkpoints and callbacks."""

import copy
import logging
import pickle

import pytest
import torch
from lightning.pytorch import Callback

from ssl_modules.compiled import compile_networks
from ssl_modules.networks.resnet import ResNet
from tests.errors import refused_in_one_line
from tests.methods import METHODS, build, train
from tests.test_methods import tiny

CASES = {f"{case.method.__name__} of {case.encoder('batch').__class__.__name__}": case for case in METHODS}
SIMCLR = CASES["SimCLR of ResNet"]
DOORS = [
    "SimCLR of ResNet",
    "CMC of LabPair",
    "VAE of VAEConv",
]  # steps call `forward`, `encode_pair`, `posterior`
SLOW = "; compiled, which makes the first step slow, up to some minutes"

# torch hides this one itself, unless warnings are errors
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile found to compile; it runs as it is, without a compiler."""
    compiled, real = [], torch.compile

    def keep(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend=keep))
    torch.compiler.reset()
    yield compiled
    torch.compiler.reset()


def weights(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


class SaveAt(Callback):
    """A checkpoint after so many steps, here in the middle of an epoch."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Start(Callback):
    """The encoder's weights when training starts."""

    def on_train_start(self, trainer, module):
        self.weights = weights(module.encoder)


def assert_equal(ours, theirs):
    assert list(ours) == list(theirs)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# --- training


@pytest.mark.parametrize("name", DOORS)
def test_a_compiled_run_trains_the_same_weights_under_the_same_names(
    name, graphs, data_dir, tmp_path, caplog
):
    case, path, ends, lines, counts = CASES[name], tmp_path / "last.ckpt", [], [], []
    for asked in (False, True):
        method = build(case, compile=asked)
        with caplog.at_level(logging.INFO):
            train(method, tiny(data_dir, case), tmp_path, max_epochs=2).save_checkpoint(path)
        ends.append(torch.load(path, weights_only=True)["state_dict"])
        assert_equal(method.state_dict(), ends[-1])
        lines.append(
            next(line for line in caplog.messages if line.startswith(f"{case.method.__name__}: batch"))
        )
        caplog.clear()
        counts.append(len(graphs))
    assert_equal(*ends)
    # the trial of the compiler, and two networks, once each for all steps and for no validation
    assert counts == [0, 3]
    assert SLOW in lines[1] and lines[1].replace(SLOW, "") == lines[0]


@pytest.mark.parametrize("first", [False, True])
def test_compiled_and_uncompiled_runs_load_each_others_checkpoints(first, graphs, data_dir, tmp_path):
    whole, path = build(SIMCLR, compile=first), tmp_path / "half.ckpt"
    train(whole, tiny(data_dir, SIMCLR), tmp_path, callbacks=[SaveAt(4, path)], max_epochs=2)
    rest = build(SIMCLR, compile=not first)
    train(rest, tiny(data_dir, SIMCLR), tmp_path, path, max_epochs=2)
    assert_equal(weights(rest), weights(whole))
    start, saved = Start(), torch.load(path, weights_only=True)["state_dict"]
    started = build(SIMCLR, compile=not first, ckpt=str(path))
    train(started, tiny(data_dir, SIMCLR), tmp_path, callbacks=[start], max_steps=1)
    assert_equal(start.weights, {name: saved[f"encoder.{name}"] for name in start.weights})


def test_a_student_and_its_teacher_are_compiled(graphs, data_dir, tmp_path):
    """DINO's `encoder` is the teacher, which does not learn; BYOL's is the student."""
    for name, networks in {
        "DINO of ResNet": ("student", "encoder"),
        "BYOL of ResNet": ("encoder", "teacher"),
    }.items():
        case, ends = CASES[name], []
        for asked in (False, True):
            method, compiled = build(case, compile=asked), len(graphs)
            train(method, tiny(data_dir, case), tmp_path, max_epochs=2)
            assert (len(graphs) > compiled) == asked
            ends.append(weights(method))
        assert_equal(*ends)
        for network in networks:
            compiled = len(graphs)
            torch.compiler.reset()
            method.get_submodule(network).train()(torch.rand(5, 3, 16, 16))
            assert len(graphs) > compiled, network


@pytest.mark.slow
def test_what_the_real_compiler_makes_trains_the_same_weights(data_dir, tmp_path):
    torch.compiler.reset()
    case = CASES["RotNet of ResNet"]._replace(encoder=lambda norm: ResNet(widths=[8], blocks=[1], norm=norm))
    ends = [weights(build(case))]
    for asked in (False, True):
        method = build(case, compile=asked, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1))
        train(method, tiny(data_dir, case), tmp_path, max_epochs=2, limit_val_batches=0)
        ends.append(weights(method))
    for name, value in ends[1].items():
        torch.testing.assert_close(ends[2][name], value, atol=2e-5, rtol=1e-4, msg=name)
    for name in dict(method.encoder.named_parameters(prefix="encoder")):
        assert (ends[1][name] - ends[0][name]).abs().max() > 1e-3, name


# --- seeing


def test_in_evaluation_networks_are_as_ever_and_so_are_copies(graphs, data_dir, tmp_path):
    method, calls = build(SIMCLR, compile=True), []
    train(method, tiny(data_dir, SIMCLR), tmp_path)
    compiled, view = len(graphs), torch.rand(5, 3, 16, 16)
    copies = [method.encoder, copy.deepcopy(method.encoder), pickle.loads(pickle.dumps(method.encoder))]
    for encoder in copies:
        for block in encoder.eval().stages:
            block.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        features = [encoder(view) for encoder in copies]
    assert torch.equal(features[0], features[1]) and torch.equal(features[0], features[2]) and len(calls) == 6
    for encoder in copies[1:]:
        encoder.train()(view)
    assert len(graphs) == compiled


# --- what is said


def test_a_frozen_encoder_is_left_as_it_is(graphs, data_dir, tmp_path, caplog):
    case = CASES["Classifier of ResNet"]
    method = build(case, compile=True, frozen=True)
    before = weights(method.encoder)
    with caplog.at_level(logging.INFO):
        train(method, tiny(data_dir, case), tmp_path)
    assert_equal(weights(method.encoder), before)
    assert not graphs and "compiled" not in caplog.text


def test_a_recurrent_encoder_is_refused():
    with refused_in_one_line("encoder.lstm is recurrent"):
        compile_networks(build(CASES["NextCharacter of CharLSTM"]), torch.device("cpu"))


def test_a_missing_compiler_is_one_line(monkeypatch, data_dir, tmp_path):
    real = torch.compile

    def broken(graph, inputs):
        raise RuntimeError("No working C++ compiler found:\n  g++")

    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend=broken))
    torch.compiler.reset()
    with refused_in_one_line(r"No working C\+\+ compiler found", "leave compile out"):
        train(build(SIMCLR, compile=True), tiny(data_dir, SIMCLR), tmp_path)
    torch.compiler.reset()
