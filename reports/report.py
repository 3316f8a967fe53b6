"""One run folder -> one page, report.html, which holds all it shows and loads nothing."""

import base64
import json
import os
import struct
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import curves, facts, verdict, words
from reports.measures import FLOORS, SPLITS, chance, measures, scale
from reports.run import Run, read

# Titles of the figures we know; a figure without one goes by the name of its folder.
FIGURES = {
    "views": "Augmented views",
    "tsne": "Map of features",
    "umap": "Map of features by UMAP",
    "pca": "Map of features by PCA",
    "latent_map": "Map of the latent space",
    "clustering": "Clusters and classes",
    "retrieval": "Nearest neighbours",
    "cam": "Where it looks",
    "filters": "Weights",
    "hardest": "Hardest and easiest examples",
    "hardest_training": "Hardest and easiest training examples",
    "confusion": "Confusions",
    "reconstructions": "Reconstructions",
    "samples": "Images drawn from the prior",
    "class_samples": "Images drawn for each class",
    "traversals": "What the latent's components do",
    "interpolations": "Between two images",
    "cka": "Similarity of layers",
    "study": "Two measures, checkpoint by checkpoint",
    "curves": "Training curves, for paper",
}
PNG = b"\x89PNG\r\n\x1a\n"


def write(folder: Path | str) -> Path:
    """Write `folder/report.html`, whole or not at all."""
    run = read(folder)
    target = run.path / "report.html"
    part = run.path / f".report.html.{os.getpid()}"
    try:
        part.write_text(page(run), encoding="utf-8", errors="replace")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def page(run: Run) -> str:
    """The report as text."""
    templates = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known, others = curves.curves(run)
    pictures, broken = figures(run)
    config = run.path / "config.yaml"
    return environment.get_template("report.html").render(
        title=facts.title(run),
        identity=facts.identity(run),
        what=facts.what(run),
        error=run.provenance.get("error"),
        verdict=verdict.verdict(run),
        headline=headline(run),
        facts=facts.facts(run),
        curves=known,
        more_curves=others,
        curves_summary=curves.summary(run),
        figures=pictures,
        broken_figures=broken,
        setup=words.setup(run),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        origin=words.origin(run),
        provenance=json.dumps(run.provenance, indent=2, ensure_ascii=False) if run.provenance else "",
        warnings=facts.warnings(run),
    )


def headline(run: Run) -> dict:
    """A row a measure, with the marks of its scale; `floor`: is there anything to compare with."""
    guess, rows = chance(run), []
    for measure in measures(run):
        marks = scale(measure, guess)
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
    return {"rows": rows, "split": splits.pop() if len(splits) == 1 else "", "floor": floor}


def figures(run: Run) -> tuple[list[dict], list[str]]:
    """Every figure with all its epochs, oldest first, as data URIs; and the files that are no whole PNG."""
    shown, broken = [], []
    order = {name: place for place, name in enumerate(FIGURES)}
    for folder in sorted(run.figures, key=lambda name: (order.get(name.partition(".")[0], len(order)), name)):
        kind, _, part = folder.partition(".")  # "filters.encoder.stem.0": one of several
        title = FIGURES.get(kind, kind.replace("_", " ")) + (f" of {part}" if part else "")
        frames = []
        for epoch, file in run.figures[folder]:
            data = file.read_bytes()
            source = f"figures/{folder}/{file.name}"
            if not data.startswith(PNG) or b"IEND" not in data[-12:]:
                broken.append(source)
                continue
            width, height = struct.unpack(">II", data[16:24])
            uri = "data:image/png;base64," + base64.b64encode(data).decode()
            frames.append({"epoch": epoch, "uri": uri, "source": source, "width": width, "height": height})
        if frames:
            shown.append({"title": title, "frames": frames})
    return shown, broken
