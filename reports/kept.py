"""results/: what stays of the runs behind a table, small enough to be committed, and the page that is made of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError
from PIL import Image

from reports import pages
from reports.groups import groups
from reports.results import NOTES, spread, tables
from reports.run import FILES, Run, read

PAGE, WIDEST = "page.md", 1000  # pixels of a picture that is kept


def keep(runs: Sequence[Run], pictures: Sequence[str], root: Path) -> list[Path]:
    """Copy config, provenance and metrics of whole runs to `root`/EXPERIMENT/VERSION, with the last of some figures.

    Args:
        pictures: names of figures; they become WebP, at most 1000 pixels wide.

    Raises:
        ValueError: a run is not whole, or has no such figure. Nothing is copied then.
    """
    for run in runs:
        if missing := [name for name in FILES if not (run.path / name).is_file()]:
            raise ValueError(f"{run.path} has no {', no '.join(missing)}: only whole runs are kept")
        if not run.finished:
            raise ValueError(f"{run.path} did not finish: let it, with --ckpt_path last, or keep another")
        if unknown := [name for name in pictures if name not in run.figures]:
            known = ", ".join(run.figures) or "none"
            raise ValueError(f"{run.path} has no figure {', '.join(unknown)}; it has: {known}")
    folders = []
    for run in runs:
        folder = root / run.experiment / run.version
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(run.path / name, folder / name)
        for name in pictures:
            with Image.open(run.figures[name][-1][1]) as image:
                small = image.convert("RGB")
                small.thumbnail((WIDEST, 4 * WIDEST))
                small.save(folder / f"{name}.webp", "WEBP", quality=80, method=6)
        folders.append(folder)
    return folders


def page(root: Path) -> str:
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
    known = {
        "table": lambda *names: tables(found(root, *names)),
        "value": lambda name, metric, digits=4: value(seeds(root, name), metric, 1, digits),
        "percent": lambda name, metric, digits=1: value(seeds(root, name), metric, 100, digits),
        "minutes": lambda name: spread([run.provenance["wall_s"] / 60 for run in seeds(root, name)], 0),
        "picture": lambda name, figure, about: picture(root, name, figure, about),
        "notes": NOTES,
    }
    try:
        return template.from_string(source.read_text(encoding="utf-8")).render(**known)
    except TemplateError as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error


def found(root: Path, *names: str) -> list[Run]:
    """The kept runs of some names, in their order."""
    folders = []
    for name in names:
        own = root / name
        versions = [own] if (own / FILES[0]).is_file() else sorted(own.glob(f"*/{FILES[0]}"))
        if not versions:
            raise ValueError(f"{root / PAGE} names {name}, of which no run is kept in {root}")
        folders += [own] if versions == [own] else [file.parent for file in versions]
    return [read(folder) for folder in folders]


def seeds(root: Path, name: str) -> list[Run]:
    """The kept runs of a name, which must be seeds of one config; a run a seed."""
    first, *others = groups(found(root, name))
    if others:
        raise ValueError(f"{root / name}: its runs differ in more than the seed; name one of them")
    return first.runs


def value(runs: list[Run], metric: str, factor: float, digits: int) -> str:
    """A metric at the last epoch, times a factor, over runs."""
    values = [run.last(metric) for run in runs]
    if None in values:
        raise ValueError(f"{runs[0].path} has no {metric}; it has: {', '.join(runs[0].metrics)}")
    return spread([factor * x for x in values], digits)


def picture(root: Path, name: str, figure: str, about: str) -> str:
    file = root / name / f"{figure}.webp"
    if not file.is_file():
        raise ValueError(f"{file} is missing: keep the run with --pictures {figure}")
    return f"![{about}]({file.as_posix()})"


def write(root: Path, target: Path) -> Path:
    """The page, whole or not at all."""
    return pages.save(target, page(root))
