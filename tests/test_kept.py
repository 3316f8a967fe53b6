"""results/ and RESULTS.md: small copies of runs, and a page whose every number comes from them."""

import copy
import csv
from pathlib import Path

import pytest

from reports.archive import archive_runs, render_archive
from reports.groups import group_runs
from reports.run import FILES, load_run
from tests.conftest import command_line
from tests.test_house import ROOT


@pytest.fixture
def kept(write_seed, tmp_path, monkeypatch):
    """A folder `results` with three seeds of an experiment, and where it is."""
    monkeypatch.chdir(tmp_path)
    runs = [load_run(write_seed(seed, version=f"_{seed}", experiment="digits")) for seed in (1, 2, 3)]
    for k, run in enumerate(runs):
        object.__setattr__(run, "version", f"version_{k}")
    archive_runs(runs, [], Path("results"))
    return Path("results")


def test_what_is_kept_says_what_the_run_says(kept):
    folders = sorted(kept.glob("*/*"))
    assert [str(folder) for folder in folders] == [f"results/digits/version_{k}" for k in range(3)]
    assert all({file.name for file in folder.iterdir()} == set(FILES) for folder in folders)
    assert [load_run(folder).last("test/probe_top1") for folder in folders] == [0.61, 0.62, 0.63]


def test_the_last_of_a_figure_is_kept_small(write_seed, tmp_path):
    from PIL import Image

    folder = Path(write_seed(1))
    (folder / "figures" / "wide").mkdir(parents=True)
    for epoch, color in ((1, "red"), (9, "blue"), (10, "white")):
        Image.new("RGB", (2000, 500), color).save(folder / "figures" / "wide" / f"epoch={epoch}.png")
    (target,) = archive_runs([load_run(folder)], ["wide"], tmp_path / "results")
    with Image.open(target / "wide.webp") as image:
        assert image.size == (1000, 250) and image.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("state, pictures, words", [
    ("failed", [], "did not finish"),
    ("finished", ["cam"], "has no figure cam; it has:"),
])  # fmt: skip
def test_what_cannot_be_kept_is_one_line_and_nothing_is_copied(write_seed, tmp_path, state, pictures, words):
    runs = [load_run(write_seed(1)), load_run(write_seed(2, state=state))]
    with pytest.raises(ValueError, match=words) as error:
        archive_runs(runs, pictures, tmp_path / "results")
    assert "\n" not in str(error.value) and not (tmp_path / "results").exists()


def test_the_page_shows_means_over_seeds_minutes_and_tables(kept):
    (kept / "page.md").write_text(
        "{{ percent('digits', 'test/probe_top1') }}; {{ value('digits/version_0', 'test/probe_top1', 3) }}; "
        "{{ minutes('digits') }}\n\n{{ table('digits') }}\n"
    )
    head, tables = render_archive(kept).split("\n\n", 1)
    assert head == "62.0 ± 1.0; 0.610; 10 ± 0"
    assert (
        "| digits/0, 1, 2 | SimCLR |" in tables and "3 (1, 2, 3)" in tables and "python cli.py fit" in tables
    )


def test_a_repeated_seed_counts_once_and_configs_are_kept_apart(kept, write_seed):
    again = load_run(write_seed(3, version="_again", experiment="digits"))
    object.__setattr__(again, "version", "version_3")
    archive_runs([again], [], kept)
    (kept / "page.md").write_text("{{ percent('digits', 'test/probe_top1') }}; {{ minutes('digits') }}")
    assert render_archive(kept) == "62.0 ± 1.0; 10 ± 0"
    longer = load_run(write_seed(4, version="_longer", experiment="digits", trainer={"max_epochs": 9}))
    object.__setattr__(longer, "version", "version_4")
    archive_runs([longer], [], kept)
    with pytest.raises(ValueError, match="differ in more than the seed"):
        render_archive(kept)


@pytest.mark.parametrize("source, words", [
    ("{{ value('nobody', 'test/top1') }}", "names nobody, of which no run is kept"),
    ("{{ value('digits', 'test/nothing') }}", "has no test/nothing; it has:"),
    ("{{ picture('digits/version_0', 'cam', 'where') }}", "keep the run with --pictures cam"),
    ("{{ value('digits' }}", "page.md:"),
    ("{{ nonsense }}", "'nonsense' is undefined"),
])  # fmt: skip
def test_a_page_that_names_what_is_not_there_is_refused_in_one_line(kept, source, words, capsys):
    (kept / "page.md").write_text(source)
    assert command_line("results") == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1 and not Path("RESULTS.md").exists()


def test_without_a_page_runs_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command_line("results") == 2 and "give run folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--keep"], ["run", "--pictures", "cam"], ["run", "--keep", "--output", "x"]]
)
def test_options_that_contradict_each_other_are_refused(words, capsys):
    assert command_line("results", *words) == 2 and "error:" in capsys.readouterr().err


def test_seeds_that_start_from_seeds_of_an_encoder_are_one_row(write_seed, make_run):
    def tuned(seed: int, epochs: int = 8) -> object:
        before = copy.deepcopy(load_run(write_seed(seed, version=f"encoder{seed}{epochs}")).config)
        before["trainer"]["max_epochs"] = epochs
        run = load_run(write_seed(seed, version=f"tuned{seed}{epochs}"))
        run.config["model"]["init_args"]["ckpt"] = f"runs/encoder/version_{seed}/checkpoints/last.ckpt"
        run.provenance["stages"] = [{"run": "encoder", "config": before, "provenance": {}}]
        return run

    assert [len(group.runs) for group in group_runs([tuned(1), tuned(2), tuned(3, epochs=9)])] == [2, 1]


def test_the_page_of_results_is_that_of_the_runs_kept(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert render_archive(Path("results")) == Path("RESULTS.md").read_text(encoding="utf-8")


def test_a_run_that_was_trained_twice_has_the_same_numbers():
    speed = {"train/data_wait", "train/examples_per_s"}

    def numbers(version: str) -> list[dict[str, str]]:
        with open(ROOT / "results" / "simclr_cifar10" / version / "metrics.csv", newline="") as file:
            return [{k: v for k, v in row.items() if k not in speed} for row in csv.DictReader(file)]

    assert numbers("version_0") == numbers("version_2")
