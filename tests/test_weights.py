"""Encoders move between methods, and what does not fit is named in one line."""

import copy
import shutil

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ssl_modules.weights import load_encoder, state_dict_mismatch
from tests.errors import refused_in_one_line
from tests.methods import METHODS, Case, build, small_resnet, train
from tests.test_methods import tiny

CASE = METHODS[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """(a method after an epoch, its checkpoint)"""
    folder = tmp_path_factory.mktemp("trained")
    method = build(CASE)
    trainer = train(method, tiny(data_dir, CASE), folder)
    trainer.save_checkpoint(folder / "last.ckpt")
    return method, str(folder / "last.ckpt")


def same(encoder, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), other.values(), strict=True))


def test_training_starts_from_the_checkpoints_encoder(trained, data_dir, tmp_path):
    method, path = trained
    other = build(CASE, ckpt=path)
    assert not same(other.encoder, method.encoder.state_dict())
    train(other, tiny(data_dir, CASE), tmp_path, max_epochs=0)
    assert same(other.encoder, method.encoder.state_dict())


def test_a_resumed_run_has_its_own_weights_and_needs_no_other_file(trained, data_dir, tmp_path):
    _, path = trained
    gone = tmp_path / "gone.ckpt"
    shutil.copy(path, gone)
    method = build(CASE, ckpt=str(gone))
    train(method, tiny(data_dir, CASE), tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    after = copy.deepcopy(method.encoder.state_dict())
    gone.unlink()
    resumed = build(CASE, ckpt=str(gone))
    train(resumed, tiny(data_dir, CASE), tmp_path, resume_from=tmp_path / "last.ckpt")
    assert same(resumed.encoder, after)


def test_another_encoder_is_refused_with_its_keys(trained):
    _, path = trained
    encoder = build(Case(CASE.method, CASE.arguments, lambda norm: small_resnet("group"))).encoder
    with refused_in_one_line(r"unknown \(", "running_mean", path):
        load_encoder(encoder, path, {"mean": [0.5] * 3, "std": [0.25] * 3})


def test_another_normalization_is_refused_with_the_numbers(trained):
    method, path = trained
    with refused_in_one_line(r"trained with mean \[0.5, 0.5, 0.5\] and std \[0.25, 0.25, 0.25\]"):
        load_encoder(copy.deepcopy(method.encoder), path, {"mean": [0.0] * 3, "std": [1.0] * 3})


def test_a_missing_checkpoint_is_named():
    with pytest.raises(MisconfigurationException, match=r"ckpt nowhere\.ckpt: no such file"):
        load_encoder(torch.nn.Identity(), "nowhere.ckpt", {"mean": [0.0], "std": [1.0]})


def test_a_mismatch_names_missing_unknown_and_misshapen_weights():
    expected, loaded = {"a": torch.zeros(1), "b": torch.zeros(2)}, {"b": torch.zeros(3), "c": torch.zeros(1)}
    assert state_dict_mismatch(expected, expected) == ""
    assert state_dict_mismatch(expected, loaded) == "1 missing (a); 1 unknown (c); 1 of another shape (b)"


def test_a_checkpoint_that_does_not_fit_names_its_keys():
    module, other = build(CASE), build(CASE)
    checkpoint = {"state_dict": module.state_dict()}
    del checkpoint["state_dict"]["encoder." + next(iter(module.encoder.state_dict()))]
    with pytest.raises(MisconfigurationException, match="1 missing"):
        other.on_load_checkpoint(checkpoint)


def test_views_outside_a_methods_range_are_refused_at_the_start(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(CASE.method, "value_range", (-1.0, 1.0))
    with refused_in_one_line(r"needs views in \[-1, 1\]", r"mean to \[0.5\] and std to \[0.5\]"):
        train(build(CASE), tiny(data_dir, CASE._replace(mean=0.5, std=0.25)), tmp_path)
    train(build(CASE), tiny(data_dir, CASE._replace(mean=0.5, std=0.5)), tmp_path)


def test_the_advice_for_pixels_from_0_to_1_is_mean_0_and_std_1(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(CASE.method, "value_range", (0.0, 1.0))
    with pytest.raises(MisconfigurationException, match=r"mean to \[0\] and std to \[1\]"):
        train(build(CASE), tiny(data_dir, CASE), tmp_path)
