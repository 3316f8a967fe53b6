"""The numbers that callbacks log, against their definitions; the files they write."""

import csv
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from callbacks.evaluation.collapse import Collapse
from callbacks.evaluation.features import FeatureSet
from callbacks.evaluation.protocol import Protocol
from callbacks.figures.views import draw_views
from callbacks.loggers.csv import CSVLogger
from callbacks.measures.alignment import sphere_uniformity, view_alignment
from callbacks.measures.rank import effective_rank, feature_spread
from tests.draws import draw_normal
from tests.methods import Flat
from tests.test_watching import build_monitors, read_untimed_metrics, train_simclr


def test_spread_is_one_on_the_sphere_and_zero_at_a_point():
    assert feature_spread(draw_normal(20_000, 16)) == pytest.approx(1, abs=0.01)
    assert feature_spread(torch.ones(10, 16)) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(feature_spread(7 * draw_normal(100, 16)), feature_spread(draw_normal(100, 16)))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_directions(rank):
    q, _ = torch.linalg.qr(draw_normal(100, 8))
    assert effective_rank(5 * q[:, :rank] @ torch.eye(rank, 8)) == pytest.approx(rank, rel=1e-4)


def test_effective_rank_is_the_papers():
    features = draw_normal(50, 12) * torch.linspace(0.1, 3, 12)
    singular = torch.linalg.svdvals(features.double())
    p = [float(s / singular.sum()) + 1e-7 for s in singular]
    assert float(effective_rank(features)) == pytest.approx(
        math.exp(-sum(x * math.log(x) for x in p)), rel=1e-6
    )


def test_features_that_are_not_finite_have_no_rank():
    assert effective_rank(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])).isnan()


def test_alignment_and_uniformity_are_the_papers():
    z1, z2 = F.normalize(draw_normal(6, 4), dim=1), F.normalize(draw_normal(6, 4, seed=1), dim=1)
    by_hand = sum(float((a - b).square().sum()) for a, b in zip(z1, z2, strict=True)) / 6
    assert float(view_alignment(3 * z1, z2)) == pytest.approx(by_hand, rel=1e-5)
    pairs = [math.exp(-2 * float((z1[i] - z1[j]).square().sum())) for i in range(6) for j in range(i)]
    assert float(sphere_uniformity(2 * z1)) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
    assert view_alignment(z1, z1) == 0 and sphere_uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)


def test_collapse_warns_and_stops_the_run_if_asked(tmp_path):
    callbacks = [
        callback for callback in build_monitors() if type(callback).__name__ in ("Features", "Throughput")
    ]
    with pytest.warns(UserWarning, match="the features have collapsed"):
        train_simclr(tmp_path, [*callbacks, Collapse(stop=True)], epochs=3, encoder=lambda **options: Flat())
    assert {row["epoch"] for row in read_untimed_metrics(tmp_path)} == {"0"}


def test_a_run_with_monitors_logs_their_numbers(tmp_path):
    train_simclr(tmp_path, [*build_monitors(), Protocol()])
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    last = {name: [row[name] for row in rows if row[name]][-1] for name in rows[0]}
    for prefix in ("", "untrained/", "pixels/"):
        for measure in ("knn20_top1", "probe_top1", "probe5_top1"):
            assert 0.1 < float(last[f"{prefix}val/{measure}"]) <= 1
    assert float(last["train/examples_per_s"]) > 0
    assert 0 < float(last["train/data_wait"]) < 1
    monitored = [row["val/knn20_top1"] for row in rows if row["val/knn20_top1"]]
    # the last epoch's monitor and the protocol agree: one name, one protocol
    assert monitored[-1] == monitored[-2]
    assert {path.name for path in (tmp_path / "figures/views").iterdir()} == {"epoch=0.png", "epoch=0.npz"}
    with np.load(tmp_path / "figures/views/epoch=0.npz") as data:
        assert data["original"].shape == (8, 8, 8, 1) and data["views"].shape == (8, 6, 8, 8, 1)


def test_views_show_color_as_color():
    original = np.zeros((2, 4, 4, 3), np.uint8)
    figure = draw_views(original, [original] * 3)
    assert len(figure.axes) == 2 * (1 + 3)


def test_unlabeled_rows_leave_a_feature_set():
    rows = FeatureSet(draw_normal(3, 2), torch.tensor([1, -1, 0]), torch.arange(3))
    assert rows.select_labeled().index.tolist() == [0, 2]


def test_csv_is_on_disk_at_once_and_grows_columns(tmp_path):
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    logger.log_metrics({"epoch": 0, "b": 2.0}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,a,b\n0,0,1.0,\n0,1,,2.0\n"


def test_csv_goes_on_where_a_run_resumes(tmp_path):
    logger = CSVLogger(str(tmp_path))
    for step in range(4):
        logger.log_metrics({"epoch": 0, "a": step}, step=step)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("0,4")  # killed while writing
    again = CSVLogger(str(tmp_path))
    again.rewind_to(2)
    again.log_metrics({"epoch": 0, "a": 20}, step=2)
    rows = csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines())
    assert [row["a"] for row in rows] == ["0", "1", "20"]
