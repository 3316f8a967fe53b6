"""Every stage that led to the encoder, in words: pretraining, then what was trained on top of it."""

from pathlib import Path

from common.splits import SPLITS
from reports.run import Run
from reports.words import setup


def stages(run: Run) -> list[dict]:
    """Oldest first; of a stage before this run what provenance.json kept."""
    before = [
        Run(Path(), str(said.get("run")), "", said.get("config") or {}, said.get("provenance") or {}, {}, {})
        for said in run.provenance.get("stages") or []
    ]
    rows = [*map(setup, before), setup(run) + final(run)]
    titles = [*(stage.experiment for stage in before), "This run"]
    return [{"title": title, "rows": said} for title, said in zip(titles, rows, strict=True)]


def final(run: Run) -> list[tuple[str, str]]:
    """The classifier's own accuracy at the last epoch, where there is one."""
    known = {SPLITS[split]: run.last(f"{split}/top1") for split in ("train", "val", "test")}
    said = ", ".join(f"{name} {100 * value:.1f} %" for name, value in known.items() if value is not None)
    return [("Accuracy at the end", said)] if said else []
