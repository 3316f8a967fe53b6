"""results/: what stays of the runs behind a table, small enough to be committed, and the page that is made of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError
from PIL import Image

from reports.groups import group_runs
from reports.pages import save_page
from reports.results import NOTES, format_spread, render_tables
from reports.run import FILES, Run, load_run

PAGE, WIDEST = "page.md", 1000  # pixels of a picture that is kept


def archive_runs(runs: Sequence[Run], pictures: Sequence[str], root: Path) -> list[Path]:
    """Copy config, provenance and metrics of finished runs to `root`/EXPERIMENT/VERSION, with the last of some figures.

    Args:
        pictures: names of figures; they become WebP, at most 1000 pixels wide.

    Raises:
        ValueError: a run is not whole, or has no such figure. Nothing is copied then.
    """
    for run in runs:
        _check_run(run, pictures)
    return [_copy_run(run, pictures, root / run.experiment / run.version) for run in runs]


def _check_run(run: Run, pictures: Sequence[str]) -> None:
    if missing := [name for name in FILES if not (run.path / name).is_file()]:
        raise ValueError(f"{run.path} has no {', no '.join(missing)}: only whole runs are kept")
    if not run.finished:
        raise ValueError(f"{run.path} did not finish: let it, with --ckpt_path last, or keep another")
    if unknown := [name for name in pictures if name not in run.figures]:
        figures = ", ".join(run.figures) or "none"
        raise ValueError(f"{run.path} has no figure {', '.join(unknown)}; it has: {figures}")


def _copy_run(run: Run, pictures: Sequence[str], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(run.path / name, folder / name)
    for name in pictures:
        with Image.open(run.figures[name][-1][1]) as image:
            small = image.convert("RGB")
            small.thumbnail((WIDEST, 4 * WIDEST))
            small.save(folder / f"{name}.webp", "WEBP", quality=80, method=6)
    return folder


def render_archive(root: Path) -> str:
    """`root`/page.md with the numbers filled in.

    The page is a Jinja template that knows `table`, `value`, `percent`, `minutes`, `picture` and `notes`; a run is
    named EXPERIMENT/VERSION, all of an experiment EXPERIMENT.

    Raises:
        ValueError: there is no page.md, it is no template, or it names what is not there.
    """
    source = root / PAGE
    if not source.is_file():
        raise ValueError(f"{source} is missing: give run folders, or write the page that shows those kept")
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    names = {
        "table": lambda *names: render_tables(find_runs(root, *names)),
        "value": lambda name, metric, digits=4: format_metric(find_seeds(root, name), metric, 1, digits),
        "percent": lambda name, metric, digits=1: format_metric(find_seeds(root, name), metric, 100, digits),
        "minutes": lambda name: format_minutes(find_seeds(root, name)),
        "picture": lambda name, figure, about: link_picture(root, name, figure, about),
        "notes": NOTES,
    }
    try:
        return template.from_string(source.read_text(encoding="utf-8")).render(**names)
    except TemplateError as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error


def find_runs(root: Path, *names: str) -> list[Run]:
    """The archived runs of some names, in their order."""
    folders = []
    for name in names:
        if (root / name / FILES[0]).is_file():
            folders.append(root / name)
            continue
        versions = sorted(file.parent for file in (root / name).glob(f"*/{FILES[0]}"))
        if not versions:
            raise ValueError(f"{root / PAGE} names {name}, of which no run is kept in {root}")
        folders += versions
    return [load_run(folder) for folder in folders]


def find_seeds(root: Path, name: str) -> list[Run]:
    """The archived runs of a name, which must be seeds of one config; a run a seed."""
    first, *others = group_runs(find_runs(root, name))
    if others:
        raise ValueError(f"{root / name}: its runs differ in more than the seed; name one of them")
    return first.runs


def format_metric(runs: list[Run], metric: str, factor: float, digits: int) -> str:
    """A metric at the last epoch, times a factor, over runs."""
    values = [run.last(metric) for run in runs]
    if None in values:
        raise ValueError(f"{runs[0].path} has no {metric}; it has: {', '.join(runs[0].metrics)}")
    return format_spread([factor * value for value in values], digits)


def format_minutes(runs: list[Run]) -> str:
    return format_spread([run.provenance["wall_s"] / 60 for run in runs], 0)


def link_picture(root: Path, name: str, figure: str, about: str) -> str:
    file = root / name / f"{figure}.webp"
    if not file.is_file():
        raise ValueError(f"{file} is missing: keep the run with --pictures {figure}")
    return f"![{about}]({file.as_posix()})"


def write_archive(root: Path, target: Path) -> Path:
    """Write the page of the archived runs, whole or not at all."""
    return save_page(target, render_archive(root))
