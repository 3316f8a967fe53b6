"""docs/methods is what docstrings, configs and kept runs say now; a setting that breaks a method gets its line."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from launch.method_pages import FOLDER, ROOT, render_pages
from reports.docstrings import format_docstring, split_docstring
from reports.method_curve import choose_ticks, draw_curve
from reports.method_page import list_breaks, list_configs, render_method
from reports.method_source import read_method, read_methods
from reports.run import load_run
from tests.methods import METHODS

KEPT = ROOT / "results" / "simclr_cifar10" / "version_0"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return render_pages(ROOT)


def test_the_pages_are_current(pages):
    """Write them anew by `python -m launch.method_pages`."""
    written = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / FOLDER).iterdir()}
    assert written.keys() == pages.keys()
    assert [name for name in pages if written[name] != pages[name]] == []


def test_every_method_has_a_page_and_a_line(pages):
    sources = {source.class_name: source for source in read_methods(ROOT)}
    assert sources.keys() == {case.method.__name__ for case in METHODS}
    for name, source in sources.items():
        assert f"[{name}]({source.name}.md)" in pages["README.md"]
        page = pages[f"{source.name}.md"]
        assert page.startswith(f"# {name}\n") and source.title in page
        assert source.papers or name == "Classifier"
        assert "## How to run it" in page and "python cli.py fit --config configs/" in page
        for step in source.steps:
            ast.parse(step)
            assert step in page


def test_every_link_leads_to_a_file(pages):
    for name, page in pages.items():
        links = re.findall(r"\]\(([^)]+)\)", page)
        assert links or name.endswith(".svg")
        for link in links:
            assert (ROOT / FOLDER / link).exists() or link in pages, (name, link)


def test_numbers_are_those_of_the_kept_run(pages):
    run, page = load_run(KEPT), pages["simclr.md"]
    for metric in (
        "test/probe_top1",
        "test/knn20_top1",
        "untrained/test/knn20_top1",
        "pixels/test/probe_top1",
    ):
        assert f" {100 * run.last(metric):.1f} |" in page
    assert "![Validation" in page and "simclr.svg" in pages
    assert "No run is kept yet" in pages["byol.md"] and "byol.svg" not in pages


def test_a_step_comes_with_what_it_needs_of_its_class():
    names = {
        source.name: [re.search(r"def (\w+)", step)[1] for step in source.steps]
        for source in read_methods(ROOT)
    }
    assert names["simclr"] == ["training_step"]
    assert names["byol"] == ["student", "training_step", "optimizer_step"]
    assert names["mae"] == ["training_step", "compute_losses", "predict_patches"]
    assert read_method(ROOT / "ssl_modules" / "base.py", ROOT) is None


def test_losses_come_with_their_docstrings():
    losses = {source.name: [name for _, name, _ in source.losses] for source in read_methods(ROOT)}
    assert losses["simclr"] == ["nt_xent"]
    assert losses["lejepa"] == ["center_losses", "sigreg"]  # and not what draws directions
    assert losses["rotnet"] == []


DOCSTRING = """Turn a thing.

It is two
lines.

Args:
    a, b: things (B, P) of
        two lines.
    c: another: with a colon.

Returns:
    Scalar. 0 at rest.

Raises:
    ValueError: never.

Doe 2020, https://example.org
"""


def test_a_docstring_becomes_markdown():
    assert list(split_docstring(DOCSTRING)) == ["", "Args", "Returns", "Raises", "end"]
    assert format_docstring(DOCSTRING) == (
        "Turn a thing.\n\nIt is two\nlines.\n\n- `a, b`: things (B, P) of two lines.\n- `c`: another: with a colon.\n\n"
        "**Returns** scalar. 0 at rest.\n\nDoe 2020, https://example.org"
    )
    assert format_docstring("One line.") == "One line."
    assert format_docstring("X.\n\nReturns:\n    KL, in nats.") == "X.\n\n**Returns** KL, in nats."


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (36, 68, [30, 40, 50, 60, 70]),
        (0.1, 0.34, [0.1, 0.2, 0.3, 0.4]),
        (5, 5, [5, 5.000002]),
        (-3, 9, [-5, 0, 5, 10]),
    ],
)
def test_ticks_are_round_and_around_the_range(low, high, expected):
    ticks = choose_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 6
    assert ticks == pytest.approx(expected)


def test_a_curve_has_every_value_and_its_floors():
    run = load_run(KEPT)
    svg = draw_curve(run)
    probe = re.search(r'<path d="M([^"]+)" fill="none" stroke="#0072b2"', svg)[1]
    assert len(probe.split("L")) == len(run.metrics["val/online_probe_top1"].value) == 20
    assert (
        "kNN, untrained" in svg and "kNN, pixels" in svg and "20 epochs" in svg and svg.endswith("</svg>\n")
    )


def test_a_setting_that_breaks_a_method_gets_its_line(tmp_path):
    for folder in ("ssl_modules", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    usual = tmp_path / "results" / "simclr_cifar10" / "version_0"
    broken = tmp_path / "results" / "simclr_cifar10_breaks_temperature" / "version_0"
    for folder in (usual, broken):
        shutil.copytree(KEPT, folder)
    source = next(source for source in read_methods(tmp_path) if source.name == "simclr")
    configs, kept = list_configs(tmp_path, source), ["simclr_cifar10", "simclr_cifar10_breaks_temperature"]
    change(broken / "config.yaml", "temperature: 0.2", "temperature: 20.0")
    change(broken / "metrics.csv", "0.7149000", "0.3149000")
    lines = list_breaks(tmp_path, configs, kept).splitlines()
    probe = next(line for line in lines if "probe" in line)
    assert "temperature: 20" in probe and "31.5" in probe and "71.5" in probe
    page, _ = render_method(tmp_path, source)
    assert (
        probe in page
        and "_breaks_" not in page.partition("## What it reached")[2].partition("## What breaks")[0]
    )
    shutil.rmtree(broken.parent)
    assert "Nothing is measured yet" in list_breaks(tmp_path, configs, kept[:1])


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
