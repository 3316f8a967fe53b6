"""Is it right everywhere? Accuracy in groups of examples, such as the sources of tweets."""

from common.metrics import select_metrics
from common.splits import SPLITS
from reports.run import Run
from reports.sections.section import Section


def make_section(run: Run) -> Section | None:
    accuracies: dict[str, dict[str, float]] = {}  # group -> split -> per cent
    for split in ("val", "test"):
        for metric in select_metrics(run.metrics, split, "group"):
            if (value := run.last(metric.name)) is not None:
                accuracies.setdefault(metric.part, {})[split] = 100 * value
    if not accuracies:
        return None
    split = "test" if all("test" in by_split for by_split in accuracies.values()) else "val"
    rows = [(name, by_split[split]) for name, by_split in accuracies.items() if split in by_split]
    rows.sort(key=lambda row: -row[1])
    (best, high), (worst, low) = rows[0], rows[-1]
    answer = f"Best on {best} ({high:.1f} % right), worst on {worst} ({low:.1f} %)." if len(rows) > 1 else ""
    overall = run.last(f"{split}/top1")
    data = {
        "groups": rows,
        "split": SPLITS[split],
        "overall": None if overall is None else 100 * overall,
        "source": f"metrics.csv: {split}/top1/GROUP",
    }
    return Section("groups", "By group", "Is it right everywhere?", "groups.html", answer, data=data)
