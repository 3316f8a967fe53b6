"""The verbs that read run folders: report and results. Neither imports torch."""

import argparse
import sys
from pathlib import Path

from launch.examples import format_examples


def make_parser(verb: str, about: str, count: str = "+") -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        f"cli.py {verb}", description=about, epilog=format_examples(verb), formatter_class=style
    )
    made.add_argument("runs", nargs=count, metavar="RUN_FOLDER", help="runs/EXPERIMENT/VERSION")
    return made


def run_report(args: list[str]) -> int:
    """Write report.html of a run folder, or the page that compares several."""
    made = make_parser(
        "report", "One run folder: its report.html. Several: a page that lays them side by side."
    )
    made.add_argument(
        "--ceiling", metavar="RUN_FOLDER", help="a run on the same data that shows how much can be reached"
    )
    made.add_argument(
        "--output", metavar="FILE.html", help="where the comparison goes (default: beside the runs)"
    )
    given = made.parse_args(args)
    from reports.compare.page import write_comparison
    from reports.report import write_report

    if len(given.runs) > 1 and given.ceiling:
        made.error("--ceiling goes with one run; a comparison shows it as one of its runs")
    if len(given.runs) == 1 and given.output:
        made.error("--output goes with several runs; the report of one stays in its folder")
    try:
        print(
            write_report(given.runs[0], given.ceiling)
            if len(given.runs) == 1
            else write_comparison(given.runs, given.output)
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run_results(args: list[str]) -> int:
    """The results of run folders as Markdown; or what is kept of runs, and the page that is made of it."""
    made = make_parser(
        "results", "Numbers of several runs as tables in Markdown, mean and spread over seeds.", "*"
    )
    made.add_argument(
        "--output",
        metavar="FILE.md",
        type=Path,
        help="where the tables go (default: to the screen; without runs: RESULTS.md, made of results/page.md)",
    )
    made.add_argument(
        "--keep", action="store_true", help="copy what a table needs of the runs to results/, to be committed"
    )
    made.add_argument(
        "--pictures", metavar="NAME", nargs="+", default=[], help="with --keep: also these of their figures"
    )
    given = made.parse_args(args)
    if given.keep and (given.output or not given.runs):
        made.error("--keep takes run folders, and copies them to results/: leave out --output")
    if given.pictures and not given.keep:
        made.error("--pictures goes with --keep")
    if given.runs and not given.keep:
        return print_tables(given.runs, given.output)
    from reports.archive import archive_runs, write_archive
    from reports.run import load_run

    try:
        if given.keep:
            runs = [load_run(folder) for folder in given.runs]
            print(*archive_runs(runs, given.pictures, Path("results")), sep="\n")
        else:
            print(write_archive(Path("results"), given.output or Path("RESULTS.md")))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def print_tables(folders: list[str], output: Path | None) -> int:
    """Print the tables of some runs, or write them to a file."""
    from reports.results import render_results, write_results
    from reports.run import load_run

    runs, status = [], 0
    for folder in folders:
        try:
            runs.append(load_run(folder))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    try:
        if runs and output:
            print(write_results(runs, output))
        elif runs:
            print(render_results(runs), end="")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status
