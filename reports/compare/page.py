"""Several run folders -> one page that lays them side by side."""

import os
from pathlib import Path

from reports.compare.curves import draw_shared_curves
from reports.compare.differences import list_differences
from reports.compare.members import make_members
from reports.compare.scales import make_shared_scales
from reports.compare.side_by_side import (
    compare_layers,
    match_evidence,
    match_maps,
    match_neighbors,
    match_pictures,
)
from reports.compare.summary import describe_networks, summarize_comparison, title_comparison
from reports.compare.tables import compare_classes, compare_numbers
from reports.description import name_dataset
from reports.formatting import format_date
from reports.pages import render_template, save_page
from reports.results import write_footnotes
from reports.run import NoRunError, Run, load_run


def write_comparison(folders: list[Path | str], output: Path | str | None = None) -> Path:
    """Write the comparison of run folders, whole or not at all.

    Args:
        output: the file; `comparison.html` in the folder that the runs share if not given.
    """
    runs = [load_run(folder) for folder in folders]
    shared = Path(os.path.commonpath([run.path.parent for run in runs]))
    target = Path(output) if output else shared / "comparison.html"
    if not target.parent.is_dir():
        raise NoRunError(f"--output {target}: there is no folder {target.parent}")
    return save_page(target, render_comparison(runs))


def render_comparison(runs: list[Run]) -> str:
    """The page as text."""
    members = make_members(list({run.path: run for run in runs}.values()))
    if len(members) < 2:
        raise NoRunError(
            f"nothing to compare: {runs[0].path} alone, or runs that differ in the seed only; give runs of two configs"
        )
    classes = {tuple(member.first.provenance.get("class_names") or ()) for member in members}
    shared = len({member.data for member in members}) == len(classes) == 1
    newest = max((str(member.first.provenance.get("started") or "") for member in members), default="")
    cka = compare_layers(members) if shared else []
    return render_template(
        "compare.html",
        kind="comparison",
        title=title_comparison(members),
        identity=[f"{len(members)} runs" + ("" if shared else ", several data sets"), format_date(newest)],
        description=describe_networks(members),
        members=members,
        summary=summarize_comparison(members, cka) if shared else [],
        shared=shared,
        data_sets=sorted({name_dataset(member.first) for member in members}),
        scales=make_shared_scales(members) if shared else [],
        table=compare_numbers(members),
        footnotes=write_footnotes([member.group for member in members]),
        curves=draw_shared_curves(members) if shared else [],
        classes=compare_classes(members) if shared else None,
        maps=match_maps(members) if shared else [],
        neighbors=match_neighbors(members) if shared else None,
        evidence=match_evidence(members) if shared else None,
        pictures=match_pictures(members),
        layers=cka,
        differences=list_differences(members),
    )
