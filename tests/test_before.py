"""What training started from: `before/...` the weights given, `untrained/...` a fresh initialization without them."""

import csv

import pytest
import torch

from callbacks.evaluation.features import Features
from callbacks.evaluation.protocol import Protocol
from launch.export import drop_pretrained_weights
from launch.untrained import build_untrained_encoder
from reports.checks import check_run
from reports.report import render_report
from reports.results import render_results
from reports.run import load_run
from reports.summary import summarize_run
from ssl_modules.networks.resnet import ResNet
from tests.conftest import PICTURES
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.report_runs import USUAL, final_row
from tests.small_runs import newest_run, run_small, write_small_config
from tests.test_methods import tiny
from tests.test_report import visible_text

CASE = find_case("SimCLR")
MEASURES = ("probe_top1", "knn5_top1")


class Gifted(ResNet):
    """A ResNet that, `pretrained`, has somebody else's weights: those of seed 77."""

    def __init__(self, pretrained: bool = False, norm: str = "batch"):
        super().__init__(widths=[8, 16], blocks=[1, 1], norm=norm)
        self.pretrained = pretrained
        if pretrained:
            self.load_state_dict(gift().state_dict())


def gift() -> ResNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        return ResNet(widths=[8, 16], blocks=[1, 1])


GIFTED = CASE._replace(encoder=lambda norm: Gifted(pretrained=True))


def equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def fit(data_dir, folder, method, resume_from=None, epochs=1, **attributes):
    protocol = Protocol(k=5, draws=1)
    for name, value in attributes.items():
        setattr(protocol, name, value)
    callbacks = [Features(), protocol]
    trainer = train(method, tiny(data_dir, CASE), folder, resume_from, callbacks=callbacks, max_epochs=epochs)
    return protocol, trainer


@pytest.fixture
def checkpoint(data_dir, tmp_path):
    """(an encoder, the path of a checkpoint with it)"""
    method = build(CASE)
    trainer = train(method, tiny(data_dir, CASE), tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    return method.encoder, tmp_path / "first.ckpt"


def test_a_run_without_weights_has_no_before(data_dir, tmp_path):
    protocol, _ = fit(data_dir, tmp_path, build(CASE))
    assert protocol.before is None and not any(name.startswith("before") for name in protocol.numbers)
    assert equal_weights(protocol.untrained, build(CASE).encoder)


def test_before_is_the_encoder_of_ckpt_also_where_a_run_resumes(data_dir, tmp_path, checkpoint):
    start, path = checkpoint
    protocol, trainer = fit(data_dir, tmp_path, build(CASE, ckpt=str(path)))
    assert equal_weights(protocol.before, start) and equal_weights(protocol.untrained, build(CASE).encoder)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(data_dir, tmp_path, build(CASE, ckpt=str(path)), tmp_path / "last.ckpt", epochs=2)
    assert equal_weights(resumed.before, start)
    for floor in ("before", "untrained", "pixels"):
        for measure in MEASURES:
            name = f"{floor}/val/{measure}"
            assert resumed.numbers[name] == protocol.numbers[name]
    # what the first run measured at its end is what the second one started from
    alone, _ = fit(data_dir, tmp_path, build(CASE), epochs=2)
    for measure in MEASURES:
        assert protocol.numbers[f"before/val/{measure}"] == alone.numbers[f"val/{measure}"]


def test_a_ckpt_that_is_gone_when_a_run_resumes_is_said_in_one_line(data_dir, tmp_path, checkpoint):
    _, path = checkpoint
    _, trainer = fit(data_dir, tmp_path, build(CASE, ckpt=str(path)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    path.unlink()
    with pytest.warns(UserWarning, match=r"first\.ckpt: no such file; the protocol leaves out") as warnings:
        protocol, _ = fit(data_dir, tmp_path, build(CASE, ckpt=str(path)), tmp_path / "last.ckpt", epochs=2)
    assert all("\n" not in str(w.message) for w in warnings if "no such file" in str(w.message))
    assert "val/probe_top1" in protocol.numbers and "before/val/probe_top1" not in protocol.numbers


def test_a_pretrained_encoder_has_a_before_and_a_fresh_untrained(data_dir, tmp_path):
    fresh = Gifted()
    protocol, _ = fit(data_dir, tmp_path, build(GIFTED), fresh=fresh)
    assert equal_weights(protocol.before, gift()) and equal_weights(protocol.untrained, fresh)
    # the numbers of each are those of a run that began with it
    as_seed, _ = fit(data_dir, tmp_path, build(CASE._replace(encoder=lambda norm: gift())))
    for measure in MEASURES:
        assert protocol.numbers[f"before/val/{measure}"] == as_seed.numbers[f"untrained/val/{measure}"]


def test_without_a_fresh_one_nothing_is_called_untrained(data_dir, tmp_path):
    protocol, _ = fit(data_dir, tmp_path, build(GIFTED))
    assert protocol.untrained is None and "untrained/val/probe_top1" not in protocol.numbers
    assert {"before/val/probe_top1", "pixels/val/probe_top1"} <= protocol.numbers.keys()


@pytest.mark.usefixtures("untouched_process")
def test_launch_builds_the_fresh_encoder_from_the_config(data_dir, tmp_path):
    config, encoder = write_small_config(tmp_path, data_dir), "--model.init_args.encoder"
    options = ["--allow_any_class", "true", encoder, "tests.test_before.Gifted"]
    options += [f"{encoder}.pretrained", "true", "--trainer.max_epochs", "1", "--test_after_fit", "true"]
    options += ["--without", f"[WandbLogger, Views, {PICTURES}]"]
    assert run_small("fit", config, tmp_path, *options) == 0
    run = load_run(newest_run(tmp_path))
    fresh = build_untrained_encoder(run.config)
    assert not fresh.pretrained and not equal_weights(fresh, gift())
    # of the seed: the same when a run resumes
    assert equal_weights(fresh, build_untrained_encoder(run.config))
    for split in ("val", "test"):
        assert {
            f"{floor}/{split}/probe_top1" for floor in ("before", "untrained", "pixels")
        } <= run.metrics.keys()
    with open(run.path / "metrics.csv") as file:
        assert next(csv.reader(file))[:2] == ["epoch", "step"]


def test_weights_of_networks_inside_an_encoder_are_dropped_too():
    inner = {"class_path": "a.Timm", "init_args": {"name": "x", "pretrained": True}}
    block = {"class_path": "a.Pair", "init_args": {"parts": [inner, inner], "pretrained": None}}
    dropped = drop_pretrained_weights(block)
    assert [part["init_args"]["pretrained"] for part in dropped["init_args"]["parts"]] == [False, False]
    assert inner["init_args"]["pretrained"] is True and dropped["init_args"]["pretrained"] is None


@pytest.mark.parametrize("before, says", [
    (0.3, "It *learned*: "),
    (0.69, "Little *changed against before*: "),
    (0.9, "Training made the features *worse*: "),
])  # fmt: skip
def test_summary_pages_and_tables_compare_with_before(make_run, before, says):
    row = final_row()
    row |= {f"before/{name}": before for name in row if "/" in name and name.count("/") == 1}
    if says.startswith("Little"):
        row |= {f"before/{name}": row[name] for name in row if name.count("/") == 1}
    run = load_run(make_run([*USUAL, {"epoch": 7, "step": 79, **row}]))
    sentence = summarize_run(run)[0]
    assert sentence.startswith(says) and "the encoder that it started from" in sentence
    assert "against before)" in sentence and "against untrained)" not in sentence
    assert "for the same network untrained" in check_run(run)[0].evidence  # which is random
    assert "before " in visible_text(render_report(run))
    text = render_results([run])
    assert "|  |  |  |  | before |" in text and "Before: the weights that training started from." in text
