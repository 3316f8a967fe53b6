"""One run folder -> one page, report.html, which holds all it shows and loads nothing."""

import json
from pathlib import Path

from common.metrics import FLOORS
from common.splits import SPLITS
from reports.accuracies import Accuracy, compute_chance, read_accuracies, read_ceilings
from reports.checks import check_run
from reports.curves import describe_loss, draw_run_curves
from reports.description import describe_origin
from reports.header import compose_title, describe_run, list_facts, list_identity, list_warnings
from reports.lineage import list_stages
from reports.pages import render_template, save_page
from reports.run import Run, load_run
from reports.scale import Mark, make_scale
from reports.sections import by_group, class_activation, errors, feature_map, neighbors, pictures
from reports.sections.section import Section
from reports.summary import summarize_run


def write_report(folder: Path | str, ceiling: Path | str | None = None) -> Path:
    """Write `folder/report.html`, whole or not at all.

    Args:
        ceiling: another run, on the same data, that shows how much can be reached.
    """
    run = load_run(folder)
    return save_page(run.path / "report.html", render_report(run, load_run(ceiling) if ceiling else None))


def render_report(run: Run, ceiling: Run | None = None) -> str:
    """The report as text."""
    curves, more_curves = draw_run_curves(run)
    sections, broken_figures = make_sections(run)
    config = run.path / "config.yaml"
    return render_template(
        "report.html",
        kind="run report",
        title=compose_title(run),
        identity=list_identity(run),
        description=describe_run(run),
        error=run.provenance.get("error"),
        summary=summarize_run(run, ceiling),
        headline=make_headline(run, ceiling),
        facts=list_facts(run),
        checks=check_run(run),
        curves=curves,
        more_curves=more_curves,
        loss_summary=describe_loss(run),
        sections=sections,
        broken_figures=broken_figures,
        stages=list_stages(run),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        origin=describe_origin(run),
        provenance=json.dumps(run.provenance, indent=2, ensure_ascii=False) if run.provenance else "",
        warnings=list_warnings(run),
        skipped=sorted((run.provenance.get("skipped") or {}).items()),
    )


def make_sections(run: Run) -> tuple[list[Section], list[str]]:
    """The sections that have something to show; and figures whose PNG is cut off."""
    questions = (feature_map, neighbors, class_activation, errors, by_group)
    sections = [section for question in questions if (section := question.make_section(run))]
    others, broken = pictures.make_picture_sections(
        run, {name for section in sections for name in section.figures}
    )
    return [*sections, *others], broken


def make_headline(run: Run, ceiling: Run | None = None) -> dict:
    """A row a protocol, with the marks of its scale; `floor`: whether there is anything to compare with."""
    levels = read_ceilings(run, ceiling) if ceiling else {}
    accuracies = read_accuracies(run)
    scales = [make_scale(a, compute_chance(run, a), levels.get(a.key)) for a in accuracies]
    rows = [_headline_row(accuracy, marks) for accuracy, marks in zip(accuracies, scales, strict=True)]
    splits = {row["split"] for row in rows}
    return {
        "rows": rows,
        "split": splits.pop() if len(splits) == 1 else "",
        "floor": any(mark.kind in FLOORS for marks in scales for mark in marks),
        "ceiling": f"{ceiling.experiment}/{ceiling.version}" if ceiling else "",
    }


def _headline_row(accuracy: Accuracy, marks: list[Mark]) -> dict:
    reached, floor = accuracy.percent(), accuracy.percent(accuracy.start)
    bar = None
    if floor is not None and reached is not None:
        bar = min(floor, reached), abs(reached - floor), reached < floor
    texts = [mark.text if mark.kind != "own" else f"this run {mark.text}" for mark in marks]
    return {
        "title": accuracy.title,
        "protocol": accuracy.protocol,
        "test": accuracy.percent(split="test"),
        "val": accuracy.percent(split="val"),
        "split": SPLITS[accuracy.split],
        "marks": marks,
        "rows": max((mark.row for mark in marks), default=0),
        "bar": bar,
        "alt": ", ".join(texts) + " %",
    }
