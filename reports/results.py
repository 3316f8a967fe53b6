"""Several runs -> the tables of a paper, in Markdown: numbers by protocol, spread over seeds, cost, origin."""

import shlex
from pathlib import Path
from statistics import mean, stdev

from common.metrics import FLOORS, find_family, read_name
from common.splits import SPLITS
from common.text import plural
from reports import pages
from reports.groups import Group, groups
from reports.measures import measures, order
from reports.run import Run, dig
from reports.words import dataset, hardware, method

COST = ("Run", "Seeds", "Minutes", "Per second", "Hardware", "Commit")
NOTES = """\
Top-1 in %, at the last epoch. Linear probe: logistic regression on the frozen features, with all training labels or
with few of each class (mean of several draws). kNN: vote of the nearest training examples. Classifier: the head that
was trained. Untrained: the same encoder before training. Several seeds: mean ± standard deviation over runs whose
configs differ in the seed alone; a number without ± is of one seed, whose spread is not known."""


def spread(values: list[float | None], digits: int = 1) -> str:
    """mean ± standard deviation, in the values' unit; a dash where a run has none."""
    if None in values or not values:
        return "-"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def numbers(groups: list[Group]) -> list[list[str]]:
    """A column a measure; a row for each group, and for each of its floors."""
    tables = [[{(m.kind, m.n): m for m in measures(run)} for run in group.runs] for group in groups]
    known = {kind for table in tables for measured in table for kind in measured}
    columns = sorted(known, key=order)
    rows = [
        [
            "Run",
            "Method",
            "Data",
            "Split",
            "Encoder",
            *(find_family(kind).format_title(n) for kind, n in columns),
            "Seeds",
        ]
    ]
    for group, table in zip(groups, tables, strict=True):
        found = {place for measured in table for m in measured.values() for place in m.found}
        split = "test" if ("", "test") in found else "val"
        ends = [method(group.first), data(group.first), SPLITS[split] if found else "-"]
        for of in ("", *FLOORS):
            if of and (of, split) not in found:
                continue
            cells = [
                spread([percent(measured.get(kind), of, split) for measured in table]) for kind in columns
            ]
            if of:
                rows.append(["", "", "", "", of, *cells, ""])
            else:
                rows.append([group.name, *ends, "trained", *cells, seeds(group)])
    return rows


def more(groups: list[Group]) -> list[list[str]]:
    """What else was measured once, at the end: losses on test, reconstruction, clustering; a row for each group."""
    metrics = [m for g in groups for run in g.runs for m in run.metrics if read_name(m).in_tables]
    metrics = [
        metric for metric in dict.fromkeys(metrics) if any(g.first.last(metric) is not None for g in groups)
    ]
    rows = [["Run", *metrics]]
    for group in groups:
        values = [[run.last(metric) for run in group.runs] for metric in metrics]
        if any(value is not None for seeds in values for value in seeds):
            rows.append([group.name, *(spread(seeds, digits=4) for seeds in values)])
    return rows


def data(run: Run) -> str:
    """The data module, and what it reads where its name does not say that."""
    kind, name = dataset(run), dig(run.config, "data", "init_args", "name")
    return f"{kind}: {name}" if isinstance(name, str) and name.lower() != kind.lower() else kind


def percent(measure, of: str, split: str) -> float | None:
    value = measure.found.get((of, split)) if measure else None
    return None if value is None else 100 * value


def seeds(group: Group) -> str:
    return f"{len(group.runs)} ({group.seeds})" if len(group.runs) > 1 else "1"


def costs(groups: list[Group]) -> list[list[str]]:
    """What a run took, and where it comes from."""
    rows = [list(COST)]
    for group in groups:
        said = [run.provenance for run in group.runs]
        minutes = [s["wall_s"] / 60 for s in said if s.get("wall_s") is not None]
        speeds = [run.per_second for run in group.runs if run.per_second]
        unit = said[0].get("unit", "images")
        rows.append(
            [
                group.name,
                group.seeds,
                spread(minutes),
                f"{mean(speeds):,.0f} {unit}" if speeds else "-",
                each(hardware(run) for run in group.runs),
                each(commit(s) for s in said),
            ]
        )
    return rows


def commit(said: dict) -> str:
    """Seven letters of it, and whether files differed from it."""
    return f"{said['commit'][:7]}{' with changes' * bool(said.get('dirty'))}" if said.get("commit") else ""


def command(run: Run) -> str:
    """As a shell can run it."""
    return shlex.join(shlex.split(run.provenance.get("command", ""))) or "not recorded"


def each(values) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value)) or "-"


def markdown(runs: list[Run]) -> str:
    """Numbers, cost and commands, and what their words mean."""
    runs = list({run.path: run for run in runs}.values())
    notes = [NOTES]
    if same := len(runs) - sum(len(group.runs) for group in groups(runs)):
        notes.append(f"Left out: {plural(same, 'run')} of a config and a seed that a later run has, too.")
    return "\n\n".join([tables(runs), *notes]) + "\n"


def tables(runs: list[Run]) -> str:
    """Numbers, cost and commands."""
    found = groups(runs)
    commands = [f"- {g.name}: `{command(g.first)}`" for g in found]
    others = more(found)
    shown = [numbers(found), *([others] if len(others[0]) > 1 else []), costs(found)]
    return "\n\n".join([*map(table, shown), "\n".join(commands)])


def table(rows: list[list[str]]) -> str:
    """Rows of cells as Markdown; the first is the head."""
    clean = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    head, *body = ["| " + " | ".join(row) + " |" for row in clean]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def write(runs: list[Run], file: Path) -> Path:
    """`markdown` in a file, whole or not at all."""
    return pages.save(file, markdown(runs))
