"""Every stage that led to the encoder, in words: pretraining, then what was trained on top of it."""

from pathlib import Path

from reports.run import Run
from reports.words import setup


def stages(run: Run) -> list[dict]:
    """Oldest first; of a stage before this run what provenance.json kept."""
    before = [
        Run(Path(), str(said.get("run")), "", said.get("config") or {}, said.get("provenance") or {}, {}, {})
        for said in run.provenance.get("stages") or []
    ]
    titles = [*(stage.experiment for stage in before), "This run"]
    return [
        {"title": title, "rows": setup(stage)} for title, stage in zip(titles, [*before, run], strict=True)
    ]
