"""Several run folders -> one page that lays them side by side."""

import os
from pathlib import Path

from reports import pages
from reports.compare import curves, side_by_side, tables
from reports.compare.differences import differences
from reports.compare.members import members
from reports.compare.verdict import subject, title, verdict
from reports.facts import day
from reports.run import NoRunError, Run, read
from reports.words import dataset


def write(folders: list[Path | str], output: Path | str | None = None) -> Path:
    """Write the comparison of run folders, whole or not at all.

    Args:
        output: the file; `comparison.html` in the folder that the runs share if not given.
    """
    runs = [read(folder) for folder in folders]
    target = (
        Path(output)
        if output
        else Path(os.path.commonpath([run.path.parent for run in runs])) / "comparison.html"
    )
    if not target.parent.is_dir():
        raise NoRunError(f"--output {target}: there is no folder {target.parent}")
    return pages.save(target, page(runs))


def page(runs: list[Run]) -> str:
    """The page as text."""
    found = members(list({run.path: run for run in runs}.values()))
    if len(found) < 2:
        raise NoRunError(
            f"nothing to compare: {runs[0].path} alone, or runs that differ in the seed only; give runs of two configs"
        )
    classes = {tuple(member.first.provenance.get("class_names") or ()) for member in found}
    shared = len({member.data for member in found}) == len(classes) == 1
    newest = max((str(member.first.provenance.get("started") or "") for member in found), default="")
    cka = side_by_side.layers(found) if shared else []
    return pages.render(
        "compare.html",
        kind="comparison",
        title=title(found),
        identity=[f"{len(found)} runs" + ("" if shared else ", several data sets"), day(newest)],
        what=subject(found),
        members=found,
        verdict=verdict(found, cka) if shared else [],
        shared=shared,
        data_sets=sorted({dataset(member.first) for member in found}),
        scales=tables.scales(found) if shared else [],
        table=tables.table(found),
        curves=curves.curves(found) if shared else [],
        classes=tables.by_class(found) if shared else None,
        maps=side_by_side.maps(found) if shared else [],
        nearest=side_by_side.nearest(found) if shared else None,
        looks=side_by_side.looks(found) if shared else None,
        drawings=side_by_side.drawings(found),
        layers=cka,
        differences=differences(found),
    )
