"""Features that are not finite while the loss is: it is said in one line, and training goes on. Too few examples."""

import csv
import warnings

import pytest
import torch

from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.features import Features, FeatureSet, NotFiniteError
from callbacks.evaluation.knn import KNN
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.protocol import Protocol
from callbacks.loggers.csv import CSVLogger
from common.rank import least_rank
from reports.checks import check_run
from reports.run import load_run
from ssl_modules.networks.resnet import ResNet
from tests.draws import draw_normal
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.report_runs import PROVENANCE, epoch_rows
from tests.small_runs import newest_run, read_facts, run_small, write_small_config
from tests.test_methods import tiny
from tests.uneven import write_uneven

CASE = find_case("SimCLR")


class Overflowing(ResNet):
    """Features of some images overflow outside of training, as they do in float16."""

    def __init__(self, norm: str = "batch"):
        super().__init__(widths=[8, 16], blocks=[1, 1], norm=norm)

    def forward(self, view):
        features = super().forward(view)
        if not self.training:
            features[::5, 3] = float("inf")
        return features


@pytest.mark.usefixtures("untouched_process")
@pytest.mark.filterwarnings("always::UserWarning")
def test_training_goes_on_and_every_callback_says_what_is_wrong(data_dir, tmp_path, capfd):
    config = write_small_config(tmp_path, data_dir)
    options = ["--allow_any_class", "true", "--model.init_args.encoder", "tests.test_not_finite.Overflowing"]
    options += ["--without", "[WandbLogger]", "--test_after_fit", "true", "--trainer.max_epochs", "2"]
    assert run_small("fit", config, tmp_path, *options) == 0
    run, facts = load_run(newest_run(tmp_path)), read_facts(newest_run(tmp_path))
    assert facts["state"] == "finished" and facts["steps"] == 10
    assert run.last("train/loss") is not None
    text = " ".join(warning["text"] for warning in facts["warnings"])
    for who in ("KNN: no accuracy", "OnlineProbe: no accuracy", "numbers on val are skipped", "diverged"):
        assert who in text, who
    assert not [name for name in run.metrics if name.startswith(("val/knn", "val/probe", "test/probe"))]
    skipped = facts["skipped"]
    for figure in ("FeatureMap", "Retrieval", "Confusion", "Hardest"):
        assert "validation examples are not finite" in skipped[figure], figure
    assert skipped["CKA"] == "the outputs of features are not finite"
    assert (run.path / "figures" / "curves").is_dir() and (run.path / "report.html").is_file()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_feature_set_says_how_many_of_which_split(bad):
    features = draw_normal(6, 3)
    features[[1, 4], 0] = bad
    rows = FeatureSet(features, torch.zeros(6, dtype=torch.long), torch.arange(6))
    with pytest.raises(NotFiniteError, match=r"^the features of 2 of 6 validation examples are not finite$"):
        rows.check_finite("val")
    assert rows.select_rows(torch.tensor([0, 2])).check_finite("val").index.tolist() == [0, 2]


def test_a_bad_row_does_not_spoil_the_online_probe(data_dir, tmp_path):
    class Spoil(KNN):  # before the probe sees the rows of a single step
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 2:
                outputs["features"] = outputs["features"].clone()
                outputs["features"][0] = float("nan")

    probe = OnlineProbe()
    with pytest.warns(UserWarning, match="features of 1 training rows of this epoch are not finite"):
        train(
            build(CASE), tiny(data_dir, CASE), tmp_path, callbacks=[Features(), Spoil(), probe], max_epochs=2
        )
    assert all(value.isfinite().all() for value in probe.probe.state_dict().values())


@pytest.mark.parametrize("examples", [1, 2])
def test_so_few_validation_examples_raise_no_alarm(tmp_path, examples):
    write_uneven(tmp_path / "tiny", {"train": [30, 30], "val": [examples - 1, 1], "test": [4, 4]})
    callbacks, logger = (
        [Features(), KNN(), OnlineProbe(), Collapse(), Protocol(draws=1)],
        CSVLogger(str(tmp_path)),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(build(CASE), tiny(tmp_path, CASE), tmp_path, callbacks=callbacks, logger=logger)
    assert not [w for w in caught if "collapsed" in str(w.message) or "degrees of freedom" in str(w.message)]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert not [(name, cell) for row in rows for name, cell in row.items() if cell in ("nan", "inf")]
    assert ("val/effective_rank" in rows[0]) == (examples > 1)


def test_a_batch_of_one_has_no_uniformity(data_dir, tmp_path):
    logger = CSVLogger(str(tmp_path))
    trainer_options = {"callbacks": [Features(), Collapse()], "logger": logger, "log_every_n_steps": 1}
    train(build(CASE, "group"), tiny(data_dir, CASE, batch_size=1), tmp_path, max_steps=2, **trainer_options)
    text = (tmp_path / "metrics.csv").read_text()
    assert "train/alignment" in text and "uniformity" not in text and "nan" not in text


@pytest.mark.parametrize(
    "examples, dim, least", [(1000, 64, 2.0), (1000, 2, 1.2), (3, 64, 1.4), (1, 64, 1.0)]
)
def test_the_least_rank_is_one_that_can_be_reached(examples, dim, least):
    assert least_rank(2.0, examples, dim) == pytest.approx(least)


@pytest.mark.parametrize("facts, answer", [
    ({}, "Yes"), ({"encoder_dim": 2}, "No"), ({"examples": {"train": 9, "val": 2}}, "No"), ({"encoder_dim": 64}, "Yes"),
])  # fmt: skip
def test_two_features_or_examples_may_have_a_rank_below_two(make_run, facts, answer):
    rows = epoch_rows(8, **{"val/effective_rank": lambda e: 1.8})
    check = check_run(load_run(make_run(rows, provenance=PROVENANCE | facts)))[1]
    assert (check.question, check.answer) == ("Collapsed?", answer)
