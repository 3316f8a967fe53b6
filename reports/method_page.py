"""A page a method, in Markdown: its idea, equation and lines, how it is run, and what a kept run of it reached."""

import re
from pathlib import Path

from reports.archive import find_runs, format_minutes
from reports.compare.differences import UNINTERESTING, flatten_config
from reports.description import describe_hardware, name_method
from reports.docstrings import format_arguments, format_docstring, split_docstring
from reports.formatting import format_option
from reports.groups import group_runs, read_seed
from reports.method_curve import draw_curve
from reports.method_source import MethodSource
from reports.results import accuracy_table, format_command, format_spread, other_table, render_markdown
from reports.run import FILES, Run, load_run

BREAKS = "_breaks_"  # in the name of a kept experiment: CONFIG_breaks_WHAT


def list_configs(root: Path, source: MethodSource) -> dict[str, str]:
    """Name -> text of the configs that train a method."""
    line = re.compile(rf"class_path: ssl_modules\.{source.name}\.{source.class_name}$", re.MULTILINE)
    texts = {
        file.stem: file.read_text(encoding="utf-8") for file in sorted((root / "configs").glob("*.yaml"))
    }
    return {name: text for name, text in texts.items() if line.search(text)}


def list_kept(root: Path, source: MethodSource, configs: dict[str, str]) -> list[str]:
    """Experiments of a method of which runs are kept, those of its configs first."""
    folders = sorted({file.parent.parent for file in (root / "results").glob(f"*/*/{FILES[0]}")})
    names = [f.name for f in folders if name_method(load_run(min(f.iterdir()))) == source.class_name]
    return sorted(names, key=lambda name: (name not in configs, name))


def describe_config(name: str, text: str) -> str:
    """A config's comment, and the command that trains it."""
    head = [line.removeprefix("#") for line in text.split("\n\n")[0].splitlines() if line.startswith("# ")]
    comment = "\n".join(f"> `{x.strip()}`  " if x.startswith("   ") else f"> {x.strip()}" for x in head)
    command = f"```bash\npython cli.py fit --config configs/{name}.yaml\n```"
    return f"{command}\n\n{comment}"


def list_distinct(runs: list[Run]) -> list[Run]:
    """Of runs of one command and seed, which differ in what defaults were when they ran, the last."""
    return list({(format_command(run), str(read_seed(run))): run for run in runs}.values())


def describe_run(root: Path, experiment: str, curve: str | None) -> str:
    """Numbers of the kept runs of an experiment, with their floors, and the command that made them."""
    groups = group_runs(list_distinct(find_runs(root / "results", experiment)))
    tables = [accuracy_table(groups), *(table for table in [other_table(groups)] if len(table[0]) > 1)]
    lines = [render_markdown(table) for table in tables]
    for group in groups:
        command = f"`{format_command(group.first)}`"
        cost = f"{format_minutes(group.runs)} minutes on {describe_hardware(group.first)}"
        lines.append(f"{group.name}: {command}, {cost}.")
    picture = [f"![Validation over the epochs of {groups[0].name}]({curve})"] if curve else []
    return "\n\n".join([*picture, *lines])


def list_breaks(root: Path, configs: dict[str, str], kept: list[str]) -> str:
    """What settings did that were kept because they break a method: what differs, and what was lost."""
    rows = [["Setting", "Measured", "with it", "without"]]
    for config in configs:
        broken = [name for name in kept if name.startswith(config + BREAKS)]
        if broken and config in kept:
            (usual, *_) = group_runs(find_runs(root / "results", config))
            for name in broken:
                for group in group_runs(find_runs(root / "results", name)):
                    rows += compare_runs(usual.runs, group.runs)
    if len(rows) > 1:
        return render_markdown(rows)
    first = next(iter(configs), "CONFIG")
    return (
        f"Nothing is measured yet. A kept run whose experiment is called `{first}{BREAKS}WHAT` becomes a line here, "
        f"beside one of `{first}`."
    )


def compare_runs(usual: list[Run], other: list[Run]) -> list[list[str]]:
    """A row for kNN and one for the probe, of what is the same but for some options."""
    a, b = (flatten_config(runs[0].config) for runs in (usual, other))
    keys = [key for key in {**b, **a} if a.get(key) != b.get(key) and not key.startswith(UNINTERESTING)]
    setting = ", ".join(f"{key.removeprefix('model.')}: {format_option(b.get(key))}" for key in keys)
    rows = []
    for metric in ("test/knn20_top1", "test/probe_top1"):
        values = [[run.last(metric) for run in runs] for runs in (other, usual)]
        if not any(None in numbers for numbers in values):
            cells = [format_spread([100 * number for number in numbers]) for numbers in values]
            rows.append([setting, metric, *cells])
    return rows


def render_method(root: Path, source: MethodSource) -> tuple[str, str | None]:
    """The page of a method, and its curve as an SVG where a run is kept."""
    configs, options = list_configs(root, source), split_docstring(source.class_docstring)
    kept = list_kept(root, source, configs)
    usual = [name for name in kept if BREAKS not in name]
    curve = draw_curve(list_distinct(find_runs(root / "results", usual[0]))[0]) if usual else None
    file = f"ssl_modules/{source.name}.py"
    idea = "\n\n".join(filter(None, [source.title, options[""], options.get("end")]))
    steps = "\n\n\n".join(source.steps)
    parent = f"; the rest is that of [{source.parent}]({source.parent}.md)" if source.parent else ""
    losses = [f"**[`{name}`](../../{path})** {format_docstring(text)}" for path, name, text in source.losses]
    sections = {
        "": idea,
        "The equation": "\n\n".join(losses),
        "The lines that are it": f"From [{file}](../../{file}){parent}:\n\n```python\n{steps}\n```",
        "Options": format_arguments(options.get("Args", "")),
        "How to run it": "\n\n".join(describe_config(*pair) for pair in configs.items()),
        "What it reached": describe_run(root, usual[0], f"{source.name}.svg" if curve else None)
        if usual
        else "No run is kept yet: `python cli.py results --keep RUN_FOLDER` keeps one.",
        "What breaks it": list_breaks(root, configs, kept),
        "Papers": "\n".join(f"- <{link}>" for link in source.papers),
    }
    note = "<!-- Made by `python -m launch.method_pages`: change the docstrings, configs or kept runs instead. -->"
    parts = [f"# {source.class_name}", note]
    for name, text in sections.items():
        parts += [part for part in (f"## {name}" if name else "", text) if part and text]
    return "\n\n".join(parts) + "\n", curve
