"""One run folder -> one page, report.html, which holds all it shows and loads nothing."""

import json
from pathlib import Path

from common.metrics import FLOORS
from common.splits import SPLITS
from reports import curves, facts, pages, stages, verdict, words
from reports.measures import ceilings, chance, measures, scale
from reports.questions import questions
from reports.run import Run, read
from reports.sections import by_group, errors, evidence, map, neighbors, pictures
from reports.sections.section import Section


def write(folder: Path | str, ceiling: Path | str | None = None) -> Path:
    """Write `folder/report.html`, whole or not at all.

    Args:
        ceiling: another run, on the same data, that shows how much can be reached.
    """
    run = read(folder)
    return pages.save(run.path / "report.html", page(run, read(ceiling) if ceiling else None))


def page(run: Run, ceiling: Run | None = None) -> str:
    """The report as text."""
    known, others = curves.curves(run)
    sections, broken = answers(run)
    config = run.path / "config.yaml"
    return pages.render(
        "report.html",
        kind="run report",
        title=facts.title(run),
        identity=facts.identity(run),
        what=facts.what(run),
        error=run.provenance.get("error"),
        verdict=verdict.verdict(run, ceiling),
        headline=headline(run, ceiling),
        facts=facts.facts(run),
        questions=questions(run),
        curves=known,
        more_curves=others,
        curves_summary=curves.summary(run),
        sections=sections,
        broken_figures=broken,
        stages=stages.stages(run),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        origin=words.origin(run),
        provenance=json.dumps(run.provenance, indent=2, ensure_ascii=False) if run.provenance else "",
        warnings=facts.warnings(run),
        skipped=sorted((run.provenance.get("skipped") or {}).items()),
    )


def answers(run: Run) -> tuple[list[Section], list[str]]:
    """The sections that have something to show; and figures that are no whole PNG."""
    found = [
        section for room in (map, neighbors, evidence, errors, by_group) if (section := room.section(run))
    ]
    others, broken = pictures.sections(run, {figure for section in found for figure in section.shows})
    return [*found, *others], broken


def headline(run: Run, ceiling: Run | None = None) -> dict:
    """A row a measure, with the marks of its scale; `floor`: is there anything to compare with."""
    guess, most, rows = chance(run), ceilings(run, ceiling) if ceiling else {}, []
    for measure in measures(run):
        marks = scale(measure, guess, most.get(measure.key))
        floor = next((m.at for m in marks if m.kind == "untrained"), None)
        own = measure.percent()
        rows.append(
            {
                "title": measure.title,
                "protocol": measure.protocol,
                "test": measure.percent(split="test"),
                "val": measure.percent(split="val"),
                "split": SPLITS[measure.split],
                "marks": marks,
                "rows": max((m.row for m in marks), default=0),
                "bar": None
                if floor is None or own is None
                else (min(floor, own), abs(own - floor), own < floor),
                "says": ", ".join(m.text if m.kind != "own" else f"this run {m.text}" for m in marks) + " %",
            }
        )
    splits = {row["split"] for row in rows}
    floor = any(mark.kind in FLOORS for row in rows for mark in row["marks"])
    return {
        "rows": rows,
        "split": splits.pop() if len(splits) == 1 else "",
        "floor": floor,
        "ceiling": f"{ceiling.experiment}/{ceiling.version}" if ceiling else "",
    }
