"""`cli.py results`: the tables say what the run folders say, and no more."""

import subprocess
import sys

import pytest

from reports.groups import group_runs
from reports.results import render_results
from reports.run import load_run
from tests.conftest import command_line
from tests.report_runs import CONFIG, PROVENANCE, USUAL
from tests.test_house import ROOT


def first_row(text: str, run: str) -> list[str]:
    """The cells of the first row of a run."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {run}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_examples_a_second_are_those_of_all_epochs(make_run):
    rows = [{"epoch": e, "step": e, "train/examples_per_s": value} for e, value in enumerate([100, 300, 300])]
    run = load_run(make_run(rows, CONFIG, PROVENANCE | {"examples_per_s": 300.0}))
    assert run.per_second == pytest.approx(3 / (1 / 100 + 2 / 300))  # each epoch has as many examples
    assert (
        load_run(make_run(USUAL, CONFIG, PROVENANCE, name="older")).per_second == PROVENANCE["examples_per_s"]
    )


def test_a_table_that_cannot_be_written_is_one_line(write_seed, tmp_path, capsys):
    (tmp_path / "file").touch()
    for output in (tmp_path, tmp_path / "file" / "x.md"):
        assert command_line("results", write_seed(1, version=str(output)[-1:]), "--output", output) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_one_run_shows_floors_cost_and_origin_without_a_spread(write_seed):
    text = render_results([load_run(write_seed(1))])
    assert first_row(text, "simclr_digits/0") == [
        *("simclr_digits/0", "SimCLR", "Digits", "test", "trained"),
        *("61.0", "41.2", "66.6", "1"),
    ]
    assert "| untrained | 41.1 | 26.2 | 34.5 |" in text and "| pixels | 37.2 | 21.3 | 35.2 |" in text
    assert "| Linear probe | Linear probe, 5 labels a class | kNN, k 20 |" in text
    assert "| 10.0 | 713 images | EPYC, 2 cores, 16 GB of memory | 3f9c2ab with changes |" in text
    assert "`python cli.py fit --config configs/simclr_digits.yaml`" in text
    assert "a number without ± is of one seed" in text


def test_seeds_of_one_config_are_one_row_with_mean_and_spread(write_seed):
    runs = [load_run(write_seed(seed)) for seed in (1, 2, 3)]
    row = first_row(render_results(runs), "simclr_digits")
    assert row[5] == "62.0 ± 1.0" and row[-1] == "3 (1, 2, 3)"
    other = load_run(write_seed(4, trainer={"max_epochs": 9}))
    assert [len(group.runs) for group in group_runs([*runs, other])] == [3, 1]


def test_resumed_runs_are_seeds_and_a_repeated_seed_counts_once(write_seed):
    resumed = load_run(write_seed(2, ckpt_path="runs/run2/version_0/checkpoints/last.ckpt"))
    elsewhere = load_run(write_seed(3, ckpt_path="runs/other/version_0/checkpoints/last.ckpt"))
    runs = [load_run(write_seed(1)), resumed, elsewhere, load_run(write_seed(1, version="again"))]
    assert [len(group.runs) for group in group_runs(runs)] == [2, 1]
    assert "Left out: 1 run of a config" in render_results(runs)
    assert "Left out" not in render_results([runs[0], runs[0]])  # the same folder twice


@pytest.mark.parametrize("state", ["interrupted", "failed", "running"])
def test_a_run_cut_short_is_marked_and_in_no_mean(write_seed, state):
    text = render_results([load_run(write_seed(1)), load_run(write_seed(2, state=state))])
    assert "simclr_digits/0, **cut short** after 8 epochs" in text.replace("8 of 8", "8")
    assert "61.0 ±" not in text


def test_what_is_no_run_is_one_line_and_the_others_are_shown(write_seed, tmp_path, capsys):
    run = write_seed(1)
    assert command_line("results", tmp_path / "nowhere", run) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "nowhere is no folder" in err and "61.0" in out
    file = tmp_path / "results.md"
    assert command_line("results", run, "--output", file) == 0
    assert capsys.readouterr().out == f"{file}\n" and file.read_text() == out
    assert command_line("results", "--help") == 0
    assert "example" in capsys.readouterr().out


def test_names_cannot_break_the_table(write_seed):
    text = render_results([load_run(write_seed(1, experiment="a|b\nc"))])
    assert "| a\\|b c/0 |" in text


def test_a_run_without_numbers_has_a_row(make_run):
    text = render_results([load_run(make_run(rows=None, provenance=None))])
    assert "cut short" in text and "SimCLR" in text


def test_it_needs_no_training_libraries(write_seed):
    program = "import sys, cli; cli.main(sys.argv[1:]); print({'torch', 'lightning'} & set(sys.modules))"
    command = [sys.executable, "-c", program, "results", str(write_seed(1))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
