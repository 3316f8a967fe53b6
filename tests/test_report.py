"""The report: it says what the run folder says, and what is missing leaves a gap."""

import re
import subprocess
import sys

import numpy as np
import pytest

from reports.accuracies import read_accuracies
from reports.chart import Line, pack_chart, thin_curve
from reports.checks import check_run
from reports.curves import draw_run_curves
from reports.report import render_report, write_report
from reports.run import NoRunError, load_run
from reports.scale import make_scale
from reports.summary import summarize_run
from tests.report_runs import CONFIG, FINAL, PROVENANCE, USUAL, epoch_rows, final_row


def visible_text(html):
    """What a reader sees."""
    return " ".join(re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", html, flags=re.S).split())


def test_a_whole_run_shows_its_numbers(make_run):
    folder = make_run(figures={"views": [0], "tsne": [0, 4, 8]})
    assert write_report(folder) == folder / "report.html"
    html = (folder / "report.html").read_text()
    words = visible_text(html)
    for expected in (
        "SimCLR on Digits",
        "simclr_digits / version_0 21 November 2026 finished, 8 of 8 epochs",
        "A ResNet of 11.2 million parameters trained for 8 epochs on 45,000 examples of 10 classes.",
        "69.4 %",
        "Linear probe, 5 labels a class",
        "vote of the 20 nearest training examples",
        "untrained 41.1",
        "pixels 37.2",
        "chance 10",
        "21 min",
        "713 images/s",
        "2 CPU cores",
        "read once",
        "temperature 0.5",
        "crops of 20 to 100 % of the area",
        "3f9c2ab, with uncommitted changes",
        "few workers",
    ):
        assert expected in words, expected
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "provenance.json", "metrics.csv", "figures", "report.html")
    }


def test_nothing_is_loaded_from_anywhere_and_every_picture_has_words(make_run):
    html = render_report(load_run(make_run(figures={"views": [0], "tsne": [0, 4]})))
    html = re.sub("<script>.*?</script>", "", html, flags=re.S)  # tests/test_browser.py: what those ask for
    addresses = re.findall(r"""(?:src|href|action|data)\s*=\s*["']?([^"'\s>]+)""", html)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp", html)
    images = re.findall(r"<img[^>]*>", html)
    assert len(images) == 3 and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert html.count('class="plot"') == html.count('class="plot" role="img" aria-label=') == 3


def test_optimizer_and_teacher_have_charts_where_they_were_logged(make_run):
    logged = {
        "weight_decay": "Weight decay",
        "train/gradient_norm": "Gradient",
        "train/momentum": "Momentum of the teacher",
        "train/teacher_temperature": "Temperature of the teacher",
    }
    plain = load_run(make_run())
    rows = [row | dict.fromkeys(logged, 0.1 * epoch) for epoch, row in enumerate(USUAL)]
    charts, others = draw_run_curves(load_run(make_run([*rows, *FINAL], name="distilled")))
    titles = {chart["title"] for chart in charts}
    assert set(logged.values()) <= titles and not others
    assert not set(logged.values()) & {chart["title"] for chart in draw_run_curves(plain)[0]}


def test_pictures_of_one_kind_are_told_apart(make_run):
    html = render_report(load_run(make_run(figures={"filters.encoder.stem.0": [0], "filters.head": [0]})))
    assert "<h3>Weights of encoder.stem.0</h3>" in html and "<h3>Weights of head</h3>" in html


def test_without_scripts_the_newest_picture_stands(make_run):
    html = render_report(load_run(make_run(figures={"tsne": [10, 0, 2], "views": [0]})))
    standing = [image for image in re.findall(r"<img[^>]*>", html) if " hidden" not in image]
    assert sorted(re.search(r'data-epoch="(\d+)"', image)[1] for image in standing) == ["0", "10"]
    assert html.count('type="range"') == html.count('class="epoch" hidden') == 1


EVIL = "<img src=x onerror=alert(1)>"


def test_names_with_html_in_them_do_nothing(make_run):
    provenance = PROVENANCE | {
        **dict.fromkeys(("method", "data", "host", "commit", "command", "state", "error", "started"), EVIL),
        "class_names": [EVIL],
        "hardware": {"gpus": [EVIL]},
        "warnings": [{"text": EVIL, "count": 1}],
    }
    config = CONFIG | {"experiment": EVIL}
    config["model"] = {"class_path": EVIL, "init_args": {EVIL: f"</pre></script>{EVIL}"}}
    rows = [*USUAL, {"epoch": 7, "step": 79, f"lr-{EVIL}": 0.1, EVIL: 1}, {"epoch": 8, "step": 89, EVIL: 2}]
    html = render_report(load_run(make_run(rows, config, provenance, {EVIL: [1, 2]}, name=EVIL)))
    assert EVIL not in html and "<img src=x" not in html
    assert html.count("</script>") == html.count("<script") and "&lt;img src=x onerror=alert(1)&gt;" in html


def test_a_run_cut_short_shows_what_there_is(make_run):
    provenance = {"state": "running", "started": "2026-11-21T22:10:04+00:00"}
    folder = make_run(USUAL[:3], provenance=provenance)
    with (folder / "metrics.csv").open("a") as file:
        file.write("3,39,0.")  # the row being written when it was killed
    run = load_run(folder)
    words = visible_text(render_report(run))
    assert run.epochs == 3 and len(run.metrics["train/loss"].value) == 3
    assert "still running, or cut off, 3 of 8 epochs" in words and "not read" in words
    assert "No accuracy of a fixed protocol is known" in words


def test_a_config_alone_is_a_report(make_run):
    words = visible_text(render_report(load_run(make_run(rows=None, provenance=None))))
    assert "SimCLR on Digits" in words and "No metric was logged" in words and "no provenance.json" in words


def test_numbers_alone_are_a_report(make_run):
    run = load_run(make_run(config=None, provenance=None))
    assert run.experiment == "simclr_digits" and "69.4 %" in visible_text(render_report(run))


def test_without_classes_no_chance_is_drawn(make_run):
    provenance = {k: v for k, v in PROVENANCE.items() if k not in ("num_classes", "class_names")}
    assert "chance" not in visible_text(render_report(load_run(make_run(provenance=provenance))))


def test_without_a_floor_the_page_says_so(make_run):
    last = {"epoch": 7, "step": 79, **final_row(untrained=False, pixels=False)}
    words = visible_text(render_report(load_run(make_run([*USUAL, last]))))
    assert "No floor was measured" in words and "59.4 points above chance" in words
    assert "It learned" not in words


def test_what_is_no_run_is_refused_in_one_line(tmp_path, make_run):
    with pytest.raises(NoRunError, match=r"no config\.yaml, no provenance\.json, no metrics\.csv"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        write_report(tmp_path / "nowhere")
    folder = make_run()
    (folder / "provenance.json").write_text('{"state": "fin')
    with pytest.raises(NoRunError, match=r"provenance\.json cannot be read") as error:
        write_report(folder)
    assert "\n" not in str(error.value) and not list(folder.glob("*report*"))


@pytest.mark.parametrize(
    ("floors", "says"),
    [
        ({"untrained": 0.3, "pixels": 0.3}, "It *learned*: a linear probe"),
        (
            {"untrained": 0.3, "pixels": 0.8},
            "39.4 points above the untrained encoder, but 10.6 points below raw pixels",
        ),
        ({"untrained": 0.3, "pixels": False}, "39.4 points above the untrained encoder."),
        ({"untrained": 0.9, "pixels": 0.3}, "Training made the features *worse*"),
        ({"trained": 0.5, "untrained": 0.505}, "It *learned nothing* that shows here"),
        ({"trained": 0.5, "untrained": 0.505}, "on a par with the untrained encoder (50.5 %)"),
        ({"untrained": 0.5}, "It *learned in part*"),
    ],
)
def test_the_summary_turns_with_the_floor(make_run, floors, says):
    run = load_run(make_run([*USUAL, {"epoch": 7, "step": 79, **final_row(**floors)}]))
    assert says in " ".join(summarize_run(run))


@pytest.mark.parametrize(
    ("metric", "curve", "says"),
    [
        ("val/effective_rank", lambda e: 1.2, "Collapsed? Yes. Effective rank 1.2."),
        ("val/effective_rank", lambda e: 40.0, "Collapsed? No. Effective rank 40."),
        ("val/feature_std", lambda e: 1e-6, "Collapsed? Yes."),
        ("val/online_probe_top1", lambda e: 0.1 * e, "Converged? Not yet. +20.0 points"),
        ("val/online_probe_top1", lambda e: min(0.1 * e, 0.5), "Converged? Leveled off. +0.0 points"),
        ("val/online_probe_top1", lambda e: 0.9 - 0.1 * e, "Converged? Getting worse."),
    ],
)
def test_the_checks_turn_with_the_curves(make_run, metric, curve, says):
    checks = check_run(load_run(make_run(epoch_rows(8, **{metric: curve}))))
    sentences = " ".join(f"{check.question} {check.answer}. {check.evidence}" for check in checks)
    assert says in sentences and "nan" not in sentences


def test_a_loss_that_is_not_finite_is_in_the_summary(make_run):
    rows = epoch_rows(8, **{"train/loss": lambda e: float("nan") if e == 8 else 1.0})
    assert "Its loss was *not finite* at the end." in summarize_run(load_run(make_run(rows)))[0]


def test_protocols_are_read_from_the_names(make_run):
    names = [
        "test/knn5_top1",
        "test/probe_top1",
        "test/probe1_top1",
        "test/probe50_top1",
        "val/online_probe_top1",
    ]
    accuracies = read_accuracies(load_run(make_run([{"epoch": 0, "step": 9, **dict.fromkeys(names, 0.5)}])))
    kinds = [(accuracy.kind, accuracy.number) for accuracy in accuracies]
    assert kinds == [("probe", None), ("probe", 50), ("probe", 1), ("knn", 5)]
    assert accuracies[2].title == "Linear probe, 1 label a class"


def test_a_classifier_is_known_by_its_own_accuracy(make_run):
    last = {"epoch": 2, "step": 29, "test/top1": 0.25}
    run = load_run(make_run([*epoch_rows(3, **{"val/top1": lambda e: 0.1 * e}), last]))
    (head,) = read_accuracies(run)
    assert (head.title, head.percent(), head.percent(split="val")) == ("Classifier", 25.0, 30.0)
    assert "Its own classifier is right on *25.0 %*" in summarize_run(run)[0]


def test_a_probe_with_a_floor_says_more_than_a_classifier(make_run):
    run = load_run(make_run([{**FINAL[0], "val/top1": 0.9}]))
    assert read_accuracies(run)[0].kind == "head"
    assert "linear probe" in summarize_run(run)[0].split(",")[0]


def test_labels_of_the_scale_never_touch(make_run):
    accuracies = read_accuracies(
        load_run(make_run([{"epoch": 7, "step": 79, **final_row(0.6, 0.11, 0.105)}]))
    )[0]
    marks = [mark for mark in make_scale(accuracies, 10.0) if mark.kind != "own"]
    assert sorted(mark.row for mark in marks) == [0, 1, 2]


def test_the_page_says_that_the_test_split_was_watched(make_run):
    rows = [*USUAL, {"epoch": 0, "step": 9, "test/knn20_top1": 0.3}, *FINAL]
    assert "read 2 times" in visible_text(render_report(load_run(make_run(rows))))


def test_of_repeated_steps_the_later_counts(make_run):
    assert load_run(make_run([*USUAL, {"epoch": 7, "step": 79, "train/loss": 1.5}])).last("train/loss") == 1.5


def test_thinning_keeps_ends_and_extremes():
    x, y = np.arange(100_000.0), np.random.default_rng(0).normal(size=100_000)
    y[[777, 54_321]] = 99, -99
    thin_x, thin_y = thin_curve(x, y)
    assert len(thin_x) <= 1000 and (np.diff(thin_x) > 0).all()
    assert {0, 777, 54_321, 99_999} <= set(thin_x) and {99, -99} <= set(thin_y)
    assert len(thin_curve(x[:1000], y[:1000])[0]) == 1000


def test_lines_share_their_times_and_have_gaps():
    drawn = pack_chart(
        [
            Line("a", np.array([1.0, 2, 3]), np.array([5.0, 6, 7])),
            Line("b", np.array([2.5]), np.array([1e-9])),
        ]
    )
    assert drawn["x"] == [1, 2, 2.5, 3]
    assert drawn["y"] == [[5, 6, None, 7], [None, None, 1e-9, None]]


def test_long_curves_make_no_long_page(make_run):
    rows = [{"epoch": i // 1000, "step": i, "train/loss_step": 1 + i % 7} for i in range(20_000)]
    long, short = make_run(rows), make_run(rows[:2000], name="short")
    assert len(render_report(load_run(long))) < len(render_report(load_run(short))) + 30_000


def test_reading_needs_no_training_libraries():
    code = (
        "import sys, reports.report; print(sorted({'torch', 'lightning', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
