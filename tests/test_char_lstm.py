"""The character LSTM against its equations, and what is trained with it."""

import csv
import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from callbacks.evaluation.by_group import ByGroup, accuracy_by_group
from callbacks.evaluation.monitor_test_split import MonitorTestSplit
from callbacks.figures.views import Views
from callbacks.loggers.csv import CSVLogger
from common.batch import Batch, BatchKey
from datamodules.tweets import Tweets
from ssl_modules.classifier import Classifier
from ssl_modules.networks.char_lstm import CharLSTM
from ssl_modules.networks.resnet import ResNet
from ssl_modules.next_character import NextCharacter
from tests.errors import refused_in_one_line
from tests.methods import train
from tests.test_watching import build_all_callbacks
from tests.tweets import write_tweets


def lstm(**options) -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(**({"hidden_dim": 8} | options))


def codes(*texts: str) -> torch.Tensor:
    """(B, T), padded to the longest."""
    longest = max(map(len, texts))
    return torch.tensor([list(text.encode().ljust(longest, b"\0")) for text in texts])


def batch_of(*texts):
    index = torch.arange(len(texts))
    return Batch([codes(*texts)], torch.full_like(index, -1), index, BatchKey.single(0, len(texts)))


def by_hand(encoder: CharLSTM, text: str) -> list[torch.Tensor]:
    """The paper in loops: the state after each character. Gates in the order of torch: input, forget, cell, output."""
    weight_x, weight_h, bias_x, bias_h = encoder.lstm.all_weights[0]
    h = c = torch.zeros(encoder.dim)
    states = []
    for character in text.encode():
        x = torch.zeros(128)
        x[character] = 1
        i, f, g, o = (weight_x @ x + bias_x + weight_h @ h + bias_h).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return states


# --- the encoder


@pytest.mark.parametrize("pool", ["last", "max"])
def test_states_and_features_are_the_papers(pool):
    encoder, texts = lstm(pool=pool), ["Hello, world!", "no", "~"]
    with torch.no_grad():
        states, features = encoder.states(codes(*texts)), encoder(codes(*texts))
        for row, text in enumerate(texts):
            expected = torch.stack(by_hand(encoder, text))
            torch.testing.assert_close(states[row, : len(text)], expected, atol=1e-5, rtol=1e-4)
            expected = expected[-1] if pool == "last" else expected.amax(0)
            torch.testing.assert_close(features[row], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", ["last", "max"])
def test_padding_never_leaks_into_features_or_gradients(pool):
    texts = ["a", "some text", "and a much longer text, which pads the others"]
    whole, alone = lstm(pool=pool), lstm(pool=pool)
    features = whole(F.pad(codes(*texts), (0, 30)))
    torch.testing.assert_close(features, torch.cat([alone(codes(text)) for text in texts]))
    features.square().sum().backward()
    sum(alone(codes(text)).square().sum() for text in texts).backward()
    for padded, plain in zip(whole.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(padded.grad, plain.grad, atol=1e-6, rtol=1e-4)
    assert not whole.lstm.weight_ih_l0.grad[:, 0].any()  # the padding's own weights


@pytest.mark.parametrize("pool", ["last", "max"])
def test_an_empty_text_is_zero_and_harms_no_other(pool):
    encoder = lstm(pool=pool)
    features = encoder(codes("", "text", ""))
    assert not features[0].any() and not features[2].any() and features[1].any()
    assert not encoder(torch.zeros(2, 1, dtype=torch.int64)).any()
    features.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_it_has_the_parameters_of_the_course():
    """Four gates of 128 units, each with weights for 128 characters and 128 units, and two biases."""
    encoder = CharLSTM()
    assert encoder.dim == 128 and not encoder.pooled and not hasattr(encoder, "maps")
    assert sum(p.numel() for p in encoder.parameters()) == 4 * 128 * (128 + 128 + 2)


# --- the next character


def test_the_loss_is_the_mean_over_characters_of_what_follows():
    method = NextCharacter(encoder=lstm(), optimizer=torch.optim.SGD)
    texts = ["abcab", "no", "x", ""]
    out = method.training_step(batch_of(*texts), 0)
    losses = []
    with torch.no_grad():
        for text in texts:
            states = by_hand(method.encoder, text)
            scores = [method.predictor(state).log_softmax(0) for state in states[:-1]]
            losses.append([-float(s[c]) for s, c in zip(scores, text.encode()[1:], strict=True)])
    every = [loss for of_text in losses for loss in of_text]
    assert float(out["loss"].detach()) == pytest.approx(sum(every) / 5, rel=1e-4)
    means = [sum(of_text) / max(1, len(of_text)) for of_text in losses]
    assert out["losses"].tolist() == pytest.approx(means, rel=1e-4)
    torch.testing.assert_close(out["features"], method.encode(codes(*texts)).detach())


def test_equal_scores_lose_log_128_and_single_characters_nothing():
    method = NextCharacter(encoder=lstm(), optimizer=torch.optim.SGD)
    nn.init.zeros_(method.predictor.weight), nn.init.zeros_(method.predictor.bias)
    for texts, expected in ((["some", "text!"], math.log(128)), (["a", ""], 0)):
        out = method.training_step(batch_of(*texts), 0)
        assert float(out["loss"].detach()) == pytest.approx(expected)
        out["loss"].backward()


def test_an_encoder_without_states_is_refused_in_one_line():
    with refused_in_one_line(r"ResNet has no states\(\): take CharLSTM"):
        NextCharacter(encoder=ResNet(widths=[8], blocks=[1]), optimizer=torch.optim.SGD)


# --- in a Trainer


@pytest.fixture
def data(tmp_path) -> Tweets:
    write_tweets(tmp_path / "tweets", train=200, unlabeled=96)
    return Tweets(data_dir=tmp_path, batch_size=16)  # 180 of them: 11 batches


def adam(rate):
    return lambda groups: torch.optim.Adam(groups, rate)


def classifier(rate=0.02, **options):
    return Classifier(encoder=lstm(hidden_dim=16, pool="max"), optimizer=adam(rate), **options)


def test_it_learns_what_tweets_say(data, tmp_path):
    trainer = train(classifier(), data, tmp_path, max_epochs=12)
    assert trainer.callback_metrics["val/top1"] >= 0.9


def test_validation_within_epochs_logs_all_splits_at_the_same_steps(data, tmp_path):
    options = {"max_steps": 35, "max_epochs": -1, "val_check_interval": 7, "check_val_every_n_epoch": None}
    options |= {"logger": CSVLogger(str(tmp_path))}
    module = classifier()
    trainer = train(module, data, tmp_path, callbacks=[MonitorTestSplit()], **options)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    steps = {
        split: [int(row["step"]) for row in rows if row[f"{split}/top1"]]
        for split in ("train", "val", "test")
    }
    assert steps["train"] == steps["val"] == steps["test"] == [6, 13, 20, 27, 34]
    assert {row["epoch"] for row in rows if row["val/top1"]} == {"0", "1", "2", "3"}
    (expected,) = trainer.test(module, data, verbose=False)
    logged = [float(row["test/top1"]) for row in rows if row["test/top1"]]
    assert logged[-1] == pytest.approx(expected["test/top1"])


def test_a_run_without_a_validation_by_steps_logs_its_epochs(data, tmp_path):
    options = {"val_check_interval": 100, "check_val_every_n_epoch": None, "max_epochs": 2}
    trainer = train(classifier(), data, tmp_path, **options)
    assert "train/loss" in trainer.callback_metrics and "val/loss" not in trainer.callback_metrics


def test_features_learned_without_labels_go_into_a_classifier(data, tmp_path):
    method = NextCharacter(encoder=lstm(hidden_dim=16, pool="max"), optimizer=adam(0.02))
    unlabeled = Tweets(data_dir=data.folder.parent, train_on="unlabeled", batch_size=16)
    trainer = train(method, unlabeled, tmp_path, max_epochs=3)
    assert trainer.callback_metrics["val/loss"] < math.log(128) - 1
    trainer.save_checkpoint(tmp_path / "next.ckpt")
    probe = classifier(frozen=True, ckpt=str(tmp_path / "next.ckpt"))
    train(probe, data, tmp_path)
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(probe.encoder.state_dict()[name], value), name
    with pytest.raises(
        MisconfigurationException, match="non_ascii transliterate, this run has non_ascii drop"
    ):
        other = Tweets(data_dir=data.folder.parent, non_ascii="drop", batch_size=16)
        train(classifier(ckpt=str(tmp_path / "next.ckpt")), other, tmp_path)


# --- groups


def test_accuracy_by_group_counts_each_group_alone():
    right = torch.tensor([True, False, True, True])
    assert accuracy_by_group(right, ["b", "a", "b", "a"]) == {"a": (0.5, 2), "b": (1.0, 2)}


def told(monkeypatch, module: str) -> list[str]:
    messages = []
    monkeypatch.setattr(f"callbacks.{module}.rank_zero_info", messages.append)
    return messages


def test_accuracies_of_groups_are_logged_and_average_to_that_of_all(data, tmp_path, monkeypatch):
    messages, module = told(monkeypatch, "evaluation.by_group"), classifier()
    trainer = train(module, data, tmp_path, callbacks=[ByGroup()], max_epochs=2)
    (metrics,) = trainer.test(module, data, verbose=False)
    groups = data.groups_of("test")
    weighed = sum(metrics[f"test/top1/{name}"] * groups.count(name) for name in ("airline", "others"))
    assert weighed / len(groups) == pytest.approx(metrics["test/top1"])
    assert len(messages) == 1 and f"({groups.count('airline')})" in messages[0]


def test_without_groups_or_logits_one_line_says_so(data, tmp_path, monkeypatch):
    messages = told(monkeypatch, "evaluation.by_group")
    method = NextCharacter(encoder=lstm(), optimizer=adam(0.01))
    train(method, data, tmp_path, callbacks=[ByGroup()]).test(method, data, verbose=False)
    path = data.folder / "test.csv"
    path.write_text(path.read_text().replace(",airline\n", ",\n").replace(",others\n", ",\n"))
    module, again = classifier(), Tweets(data_dir=data.folder.parent, batch_size=16)
    train(module, again, tmp_path, callbacks=[ByGroup()]).test(module, again, verbose=False)
    assert [line.partition(":")[2] for line in messages] == [
        " the steps return no logits: no accuracy of each",
        " Tweets has no groups: no accuracy of each",
    ]


# --- other callbacks


def test_views_say_that_text_has_no_picture_and_quote_it(data, tmp_path, monkeypatch):
    messages = told(monkeypatch, "figures.views")
    train(classifier(), data, tmp_path, callbacks=[Views()])
    first = data.datasets["train"].texts[0].decode()
    assert messages == [f"Views: text has no picture; the first example is read as {first!r}"]
    assert not (tmp_path / "figures").exists()


def test_every_usual_callback_reads_text_and_changes_nothing(data, tmp_path):
    weights = []
    for callbacks in ([], build_all_callbacks()):
        method = NextCharacter(encoder=lstm(hidden_dim=16, pool="max"), optimizer=adam(0.02))
        unlabeled = Tweets(data_dir=data.folder.parent, train_on="unlabeled", batch_size=16)
        options = {
            "logger": CSVLogger(str(tmp_path)),
            "enable_checkpointing": bool(callbacks),
            "max_epochs": 2,
        }
        train(method, unlabeled, tmp_path, callbacks=callbacks, **options)
        weights.append(method.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    columns = {"val/bank_probe_top1", "val/knn20_top1", "val/effective_rank", "characters/val/probe_top1"}
    assert columns <= set(header.split(",")) and len(rows) > 2
