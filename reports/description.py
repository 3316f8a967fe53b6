"""What a run's config and provenance say, in words: pairs of a term and its text."""

import re

from common.splits import SPLITS
from common.text import plural
from reports.formatting import format_option, format_recipe, group_gpus, strip_module
from reports.run import Run, get_nested

HARDWARE = {"cpu": "{}", "cores": "{} cores", "memory_gb": "{:.0f} GB of memory"}
MOST_CLASSES = 20


def name_method(run: Run) -> str:
    return str(run.provenance.get("method") or strip_module(get_nested(run.config, "model", "class_path")))


def name_dataset(run: Run) -> str:
    return str(run.provenance.get("data") or strip_module(get_nested(run.config, "data", "class_path")))


def name_encoder(run: Run) -> str:
    return strip_module(get_nested(run.config, "model", "init_args", "encoder", "class_path"))


def format_progress(run: Run) -> str:
    """'12 of 20 epochs', as far as known."""
    done, planned = run.epochs, get_nested(run.config, "trainer", "max_epochs")
    if done is None:
        return ""
    if isinstance(planned, int) and planned >= done:
        return f"{done} of {planned} epochs"
    return plural(done, "epoch")


def describe_setup(run: Run) -> list[tuple[str, str]]:
    """How a run was trained, from its config; rows without content are left out."""
    model = dict(get_nested(run.config, "model", "init_args") or {})
    data = dict(get_nested(run.config, "data", "init_args") or {})
    optimizer = [format_option(model.pop("optimizer"))] if model.get("optimizer") else []
    schedule = [key for key in model if key.startswith(("warmup", "schedul"))]
    optimizer += [format_option({key: model.pop(key)}) for key in schedule]
    encoder, batch_size = model.pop("encoder", None), data.pop("batch_size", None)
    views = _describe_views(data.pop("views", None) or [])
    rows = [
        ("Method", ": ".join(filter(None, (name_method(run), format_option(model))))),
        ("Encoder", format_option(encoder) if encoder else ""),
        ("Data", ": ".join(filter(None, (name_dataset(run), format_option(data))))),
        ("Classes", _list_classes(run.provenance.get("class_names") or [])),
        ("Class counts", _list_class_counts(run)),
        ("Views", "; ".join(view or "unchanged" for view in views)),
        ("Optimizer", ", ".join(filter(None, optimizer))),
        ("Length", _describe_length(run.config.get("trainer") or {}, batch_size)),
    ]
    return [(term, text) for term, text in rows if text]


def describe_origin(run: Run) -> list[tuple[str, str]]:
    """Where the numbers come from; what was not recorded is left out."""
    record = run.provenance
    commit = record.get("commit")
    if commit and record.get("dirty"):
        commit = f"{commit}, with uncommitted changes"
    versions = ", ".join(
        f"{package} {version}" for package, version in (record.get("versions") or {}).items()
    )
    rows = [
        ("Command", record.get("command")),
        ("Commit", commit),
        ("Started", record.get("started")),
        ("Ended", record.get("ended")),
        ("Host", record.get("host")),
        ("Hardware", describe_hardware(run)),
        ("Processes", record.get("processes")),
        ("Precision", record.get("precision") or get_nested(run.config, "trainer", "precision")),
        ("Seed", record.get("seed", run.config.get("seed_everything"))),
        ("Versions", versions),
    ]
    return [(term, str(text)) for term, text in rows if text not in (None, "")]


def describe_hardware(run: Run) -> str:
    hardware = run.provenance.get("hardware") or {}
    gpus = hardware.get("gpus") or []
    parts = [group_gpus(gpus)] if gpus else []
    parts += [text.format(hardware[key]) for key, text in HARDWARE.items() if hardware.get(key)]
    return re.sub(r"\b1 cores", "1 core", ", ".join(parts))


def _describe_views(recipes: list) -> list[str]:
    views = [format_recipe(recipe) for recipe in recipes]
    if len(views) > 1 and len(set(views)) == 1:
        return [f"{len(views)} of each example, each drawn from: {views[0]}"]
    if len(views) > 1:
        return [f"{number}: {view}" for number, view in enumerate(views, start=1)]
    return views


def _describe_length(trainer: dict, batch_size: object) -> str:
    limits = {"epochs": trainer.get("max_epochs"), "steps": trainer.get("max_steps")}
    parts = [f"{limit:,} {unit}" for unit, limit in limits.items() if (limit or -1) > 0]
    return ", ".join([*parts, f"batches of {batch_size}"] if batch_size else parts)


def _list_class_counts(run: Run) -> str:
    """Examples of each class in each split, which are recorded where classes are uneven or validation lacks one."""
    names = run.provenance.get("class_names")
    parts = []
    for split, counts in (run.provenance.get("class_counts") or {}).items():
        pairs = [f"{count:,} {names[k] if names else k}" for k, count in enumerate(counts)]
        parts.append(f"{SPLITS.get(split, split)} {_list_classes(pairs)}")
    return "; ".join(parts)


def _list_classes(names: list) -> str:
    more = f" and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    return ", ".join(map(str, names[:MOST_CLASSES])) + more
