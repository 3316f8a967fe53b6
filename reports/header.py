"""The top of a report: what was run, when, how it ended, and what it cost."""

from common.text import plural
from reports.accuracies import count_test_reads
from reports.description import format_progress, name_dataset, name_encoder, name_method
from reports.formatting import format_count, format_date, format_duration, group_gpus
from reports.run import Run

STATES = {"running": "still running, or cut off"}


def compose_title(run: Run) -> str:
    method, data = name_method(run), name_dataset(run)
    return f"{method} on {data}" if method and data else method or run.experiment


def list_identity(run: Run) -> list[str]:
    """Run folder, date, and how it ended."""
    state = run.provenance.get("state")
    state = str(STATES.get(state, state) or "state not recorded")
    progress = ", ".join(filter(None, [state, format_progress(run)]))
    parts = (f"{run.experiment} / {run.version}", format_date(run.provenance.get("started")), progress)
    return [part for part in parts if part]


def describe_run(run: Run) -> str:
    """One sentence: which encoder was trained, how long, on what."""
    record = run.provenance
    encoder, size = name_encoder(run) or "encoder", record.get("encoder_parameters")
    article = "An" if encoder[:1].lower() in "aeio" else "A"
    sentence = f"{article} {encoder}{f' of {format_count(size)} parameters' if size else ''} trained"
    if run.epochs is not None:
        sentence += f" for {plural(run.epochs, 'epoch')}"
    if record.get("examples"):
        sentence += f" on {record['examples']['train']:,} examples"
    elif name_dataset(run):
        sentence += f" on {name_dataset(run)}"
    return sentence + (f" of {record['num_classes']} classes." if record.get("num_classes") else ".")


def list_facts(run: Run) -> list[tuple[str, str, str]]:
    """Term, value, small print; unknown ones are left out, but for the test split."""
    record = run.provenance
    rows = []
    if record.get("wall_s") is not None:
        rows.append(("Training time", format_duration(record["wall_s"]), format_progress(run)))
    if speed := run.per_second:
        rows.append(("Throughput", f"{speed:,.0f} {record.get('unit', 'images')}/s", ""))
    if device := name_device(record.get("hardware") or {}):
        rows.append(("Hardware", device, str(record.get("precision") or "")))
    if size := record.get("encoder_parameters"):
        rows.append(("Encoder", f"{format_count(size)} parameters", name_encoder(run)))
    reads = count_test_reads(run)
    texts = {0: ("not read", "metrics.csv has no test number"), 1: ("read once", "at the end of the run")}
    return [*rows, ("Test split", *texts.get(reads, (f"read {reads} times", "watched while training")))]


def name_device(hardware: dict) -> str:
    """The GPUs; without any the number of cores, or the name of the processor."""
    if hardware.get("gpus"):
        return group_gpus(hardware["gpus"])
    return f"{hardware['cores']} CPU cores" if hardware.get("cores") else hardware.get("cpu") or ""


def list_warnings(run: Run) -> list[tuple[int, str]] | None:
    """Each warning with how often it came; None where they were not recorded."""
    warnings = run.provenance.get("warnings")
    if warnings is None:
        return None
    return [(w.get("count", 1), str(w.get("text"))) if isinstance(w, dict) else (1, str(w)) for w in warnings]
