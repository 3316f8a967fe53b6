"""Several runs -> the tables of a paper, in Markdown: numbers by protocol, spread over seeds, cost, origin."""

import shlex
from pathlib import Path
from statistics import mean, stdev

from common.metrics import LEVELS, find_family, read_name
from common.splits import SPLITS
from common.text import plural
from reports.accuracies import Accuracy, has_doubled_c, rank_protocol, read_accuracies
from reports.description import describe_hardware, name_dataset, name_method
from reports.formatting import join_distinct
from reports.groups import Group, group_runs, read_seed
from reports.pages import save_page
from reports.run import Run, get_nested

NOTES = """\
Top-1 in %, at the last epoch. Linear probe: logistic regression on the frozen features, with all training labels or
with few of each class (mean of several draws). kNN: vote of the nearest training examples. Classifier: the head that
was trained. Untrained: the same encoder before training. Several seeds: mean ± standard deviation over runs whose
configs differ in the seed alone; a number without ± is of one seed, whose spread is not known."""


UNEVEN_NOTE = """\
Classes are uneven where a row has a majority, the accuracy of always naming the largest class. Balanced accuracy: mean
over classes of the share that is right. Macro F1: mean over classes of F1. AUC: area under the ROC curve. All in %."""
BEFORE_NOTE = """\
Before: the weights that training started from. Untrained, in these rows: a fresh initialization."""
DOUBLED_C_NOTE = "The linear probe of two classes had C = 2, where later runs have C = 1, in the rows of"


def format_spread(values: list[float | None], digits: int = 1) -> str:
    """mean ± standard deviation, in the values' unit; a dash where a run has none."""
    if None in values or not values:
        return "-"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def accuracy_table(groups: list[Group]) -> list[list[str]]:
    """A column a protocol; a row for each group, and for each of its floors."""
    measured = [[{a.key: a for a in read_accuracies(run)} for run in group.runs] for group in groups]
    protocols = sorted({key for runs in measured for run in runs for key in run}, key=rank_protocol)
    heads = [find_family(kind).format_title(number) for kind, number in protocols]
    rows = [["Run", "Method", "Data", "Split", "Encoder", *heads, "Seeds"]]
    for group, runs in zip(groups, measured, strict=True):
        places = {place for run in runs for accuracy in run.values() for place in accuracy.values}
        split = "test" if ("", "test") in places else "val"
        for floor in ("", *LEVELS):
            values = [[get_percent(run.get(key), floor, split) for run in runs] for key in protocols]
            cells = [format_spread(percents) for percents in values]
            if not floor:
                names = [
                    name_method(group.first),
                    describe_data(group.first),
                    SPLITS[split] if places else "-",
                ]
                rows.append([group.name, *names, "trained", *cells, format_seeds(group)])
            elif (floor, split) in places:
                rows.append(["", "", "", "", floor, *cells, ""])
    return rows


def other_table(groups: list[Group]) -> list[list[str]]:
    """What else was measured once, at the end: losses on test, reconstruction, clustering; a row for each group."""
    names = {
        name: None for g in groups for run in g.runs for name in run.metrics if read_name(name).in_tables
    }
    metrics = [name for name in names if any(group.first.last(name) is not None for group in groups)]
    rows = [["Run", *metrics]]
    for group in groups:
        columns = [[run.last(name) for run in group.runs] for name in metrics]
        if any(value is not None for column in columns for value in column):
            rows.append([group.name, *(format_spread(column, digits=4) for column in columns)])
    return rows


def cost_table(groups: list[Group]) -> list[list[str]]:
    """What a run took, and where it comes from."""
    rows = [["Run", "Seeds", "Minutes", "Per second", "Hardware", "Commit"]]
    for group in groups:
        records = [run.provenance for run in group.runs]
        minutes = [record["wall_s"] / 60 for record in records if record.get("wall_s") is not None]
        speeds = [run.per_second for run in group.runs if run.per_second]
        rows.append(
            [
                group.name,
                group.seeds,
                format_spread(minutes),
                f"{mean(speeds):,.0f} {records[0].get('unit', 'images')}" if speeds else "-",
                join_distinct(describe_hardware(run) for run in group.runs),
                join_distinct(format_commit(record) for record in records),
            ]
        )
    return rows


def describe_data(run: Run) -> str:
    """The data module, and what it reads where its name does not say that."""
    kind, name = name_dataset(run), get_nested(run.config, "data", "init_args", "name")
    return f"{kind}: {name}" if isinstance(name, str) and name.lower() != kind.lower() else kind


def get_percent(accuracy: Accuracy | None, floor: str, split: str) -> float | None:
    value = accuracy.values.get((floor, split)) if accuracy else None
    return None if value is None else 100 * value


def format_seeds(group: Group) -> str:
    return f"{len(group.runs)} ({group.seeds})" if len(group.runs) > 1 else "1"


def format_commit(record: dict) -> str:
    """Seven letters of a provenance's commit, and whether files differed from it."""
    if not record.get("commit"):
        return ""
    return record["commit"][:7] + (" with changes" if record.get("dirty") else "")


def format_command(run: Run) -> str:
    """The command of a run, so that a shell can run it."""
    return shlex.join(shlex.split(run.provenance.get("command", ""))) or "not recorded"


def render_results(runs: list[Run]) -> str:
    """Numbers, cost and commands, and what their words mean."""
    runs = list({run.path: run for run in runs}.values())
    notes = [NOTES]
    if repeated := len(runs) - sum(len(group.runs) for group in group_runs(runs)):
        notes.append(f"Left out: {plural(repeated, 'run')} of a config and a seed that a later run has.")
    return "\n\n".join([render_tables(runs), *notes]) + "\n"


def render_tables(runs: list[Run]) -> str:
    """Numbers, what else must be known of them, cost and commands."""
    groups = group_runs(runs)
    commands = [f"- {group.name}: `{format_command(group.first)}`" for group in groups]
    others = other_table(groups)
    tables = [accuracy_table(groups), *([others] if len(others[0]) > 1 else []), cost_table(groups)]
    accuracies, *more = map(render_markdown, tables)
    return "\n\n".join([accuracies, *write_footnotes(groups), *more, "\n".join(commands)])


def write_footnotes(groups: list[Group]) -> list[str]:
    """What a reader must know of the numbers of some of the runs; nothing where it is said of all in NOTES."""
    accuracies = [accuracy for group in groups for run in group.runs for accuracy in read_accuracies(run)]
    notes = []
    if any(accuracy.score for accuracy in accuracies):
        notes.append(UNEVEN_NOTE)
    if any(floor == "before" for accuracy in accuracies for floor, _ in accuracy.values):
        notes.append(BEFORE_NOTE)
    old = [(group, [run for run in group.runs if has_doubled_c(run)]) for group in groups]
    if names := [name_runs(group, runs) for group, runs in old if runs]:
        notes.append(f"{DOUBLED_C_NOTE}: {', '.join(names)}.")
    return notes


def name_runs(group: Group, runs: list[Run]) -> str:
    """A group's name and, where not all of its runs are meant, their seeds."""
    seeds = ", ".join(str(read_seed(run)) for run in runs)
    return group.name + (f" (of seed {seeds})" if len(runs) < len(group.runs) else "")


def render_markdown(rows: list[list[str]]) -> str:
    """Rows of cells as a table in Markdown; the first row is the head."""
    clean = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    head, *body = ["| " + " | ".join(row) + " |" for row in clean]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def write_results(runs: list[Run], file: Path) -> Path:
    """Write the tables of some runs to a file, whole or not at all."""
    return save_page(file, render_results(runs))
