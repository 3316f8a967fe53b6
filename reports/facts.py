"""The top of the page: what was run, when, how it ended, and what it cost."""

from datetime import datetime

from common.text import plural
from reports.measures import reads_of_test
from reports.run import Run, dig
from reports.verdict import progress
from reports.words import count_of, dataset, method, name

STATES = {"running": "still running, or cut off"}


def title(run: Run) -> str:
    what, data = method(run), dataset(run)
    return f"{what} on {data}" if what and data else what or run.experiment


def identity(run: Run) -> list[str]:
    """Run folder, date, state."""
    said = [f"{run.experiment} / {run.version}", day(run.provenance.get("started"))]
    state = run.provenance.get("state")
    state = STATES.get(state, state) or "state not recorded"
    return [text for text in (*said, ", ".join(filter(None, [str(state), progress(run)]))) if text]


def day(stamp: object) -> str:
    """2026-11-21T22:10:04 -> 21 November 2026."""
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def what(run: Run) -> str:
    """One sentence: which encoder was trained, how long, on what."""
    said = run.provenance
    encoder = name(dig(run.config, "model", "init_args", "encoder", "class_path")) or "encoder"
    size = said.get("encoder_parameters")
    text = f"{_article(encoder)} {encoder}{f' of {count(size)} parameters' if size else ''} trained"
    if run.epochs is not None:
        text += f" for {plural(run.epochs, 'epoch')}"
    if said.get("examples"):
        text += f" on {said['examples']['train']:,} examples"
    elif dataset(run):
        text += f" on {dataset(run)}"
    return text + (f" of {said['num_classes']} classes." if said.get("num_classes") else ".")


def facts(run: Run) -> list[tuple[str, str, str]]:
    """Term, value, small print; unknown ones are left out, but for the test split."""
    said = run.provenance
    rows = []
    if said.get("wall_s") is not None:
        rows.append(("Training time", duration(said["wall_s"]), progress(run)))
    if speed := run.per_second:
        rows.append(("Throughput", f"{speed:,.0f} {said.get('unit', 'images')}/s", ""))
    found = said.get("hardware") or {}
    cores = f"{found['cores']} CPU cores" if found.get("cores") else found.get("cpu") or ""
    device = count_of(found["gpus"]) if found.get("gpus") else cores
    if device:
        rows.append(("Hardware", device, str(said.get("precision") or "")))
    if size := said.get("encoder_parameters"):
        encoder = name(dig(run.config, "model", "init_args", "encoder", "class_path"))
        rows.append(("Encoder", f"{count(size)} parameters", encoder))
    reads = reads_of_test(run)
    times = {0: ("not read", "metrics.csv has no test number"), 1: ("read once", "at the end of the run")}
    return [*rows, ("Test split", *times.get(reads, (f"read {reads} times", "watched while training")))]


def warnings(run: Run) -> list[tuple[int, str]] | None:
    """Each warning with how often it came; None where they were not recorded."""
    found = run.provenance.get("warnings")
    if found is None:
        return None
    return [(w.get("count", 1), str(w.get("text"))) if isinstance(w, dict) else (1, str(w)) for w in found]


def duration(seconds: float) -> str:
    """38 s, 21 min, 3 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def count(n: int) -> str:
    """11.2 million, 272 thousand, 650."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if n >= 0.9995 * size:
            return f"{n / size:.3g}{word}"
    return str(n)


def _article(word: str) -> str:
    return "An" if word[:1].lower() in "aeio" else "A"
