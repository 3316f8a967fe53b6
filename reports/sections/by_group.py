"""Is it right everywhere? Accuracy in groups of examples, such as the sources of tweets."""

from common.metrics import select_metrics
from common.splits import SPLITS
from reports.run import Run
from reports.sections.section import Section


def section(run: Run) -> Section | None:
    found: dict[str, dict[str, float]] = {}
    for split in ("val", "test"):
        for metric in select_metrics(run.metrics, split, "group"):
            if (value := run.last(metric.name)) is not None:
                found.setdefault(metric.part, {})[split] = 100 * value
    if not found:
        return None
    split = "test" if all("test" in values for values in found.values()) else "val"
    groups = sorted(
        ((name, values[split]) for name, values in found.items() if split in values), key=lambda row: -row[1]
    )
    (best, high), (worst, low) = groups[0], groups[-1]
    says = f"Best on {best} ({high:.1f} % right), worst on {worst} ({low:.1f} %)." if len(groups) > 1 else ""
    whole = run.last(f"{split}/top1")
    data = {"groups": groups, "split": SPLITS[split], "whole": None if whole is None else 100 * whole}
    return Section("groups", "By group", "Is it right everywhere?", "groups.html", says, data=data)
