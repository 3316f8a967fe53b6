"""Every run that led to the encoder, in words: pretraining, then what was trained on top of it."""

from pathlib import Path

from common.splits import SPLITS
from reports.description import describe_setup
from reports.run import Run


def list_stages(run: Run) -> list[dict]:
    """The runs before this one, oldest first, of which provenance.json kept config and provenance; then this one."""
    earlier = [
        Run(
            Path(),
            str(stage.get("run")),
            "",
            stage.get("config") or {},
            stage.get("provenance") or {},
            {},
            {},
        )
        for stage in run.provenance.get("stages") or []
    ]
    stages = [{"title": stage.experiment, "rows": describe_setup(stage)} for stage in earlier]
    return [*stages, {"title": "This run", "rows": describe_setup(run) + describe_final_accuracy(run)}]


def describe_final_accuracy(run: Run) -> list[tuple[str, str]]:
    """The row with the classifier's own accuracy at the last epoch, where there is one."""
    accuracies = {split: run.last(f"{split}/top1") for split in ("train", "val", "test")}
    parts = [f"{SPLITS[split]} {100 * top1:.1f} %" for split, top1 in accuracies.items() if top1 is not None]
    return [("Accuracy at the end", ", ".join(parts))] if parts else []
