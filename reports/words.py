"""A config and a provenance in words: pairs of a term and what to say."""

import re

from reports.run import Run, dig

SIZES = {"cpu": "", "cores": "{} cores", "memory_gb": "{:.0f} GB of memory"}

CHANCES = {
    "flip": "mirrored",
    "jitter": "colors jittered",
    "gray": "without color",
    "blur": "blurred",
    "solarize": "solarized",
}


def name(class_path: object) -> str:
    """ssl_modules.simclr.SimCLR -> SimCLR."""
    return str(class_path).rsplit(".", 1)[-1] if class_path else ""


def words(value: object) -> str:
    """Any value of a config on one line."""
    if isinstance(value, dict) and "class_path" in value:
        inner = words(value.get("init_args") or {})
        return name(value["class_path"]) + (f" ({inner})" if inner else "")
    if isinstance(value, dict):
        return ", ".join(f"{str(k).replace('_', ' ')} {words(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "[" + ", ".join(words(v) for v in value) + "]"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def recipe(view: object) -> str:
    """An augmentation as a reader says it; options that do nothing are left out, unknown ones come last."""
    if not isinstance(view, dict) or "class_path" in view:
        return words(view)
    rest = {key: value for key, value in view.items() if value not in (0, None, [1, 1])}
    said = []
    match rest.pop("scale", None):
        case [int() | float() as low, int() | float() as high]:
            said.append(f"crops of {100 * low:g} to {100 * high:g} % of the area")
    jitter = {key: rest.pop(key) for key in ("brightness", "contrast", "saturation", "hue") if key in rest}
    sigma = rest.pop("sigma", None)
    more = {"jitter": jitter and f" ({words(jitter)})", "blur": sigma and f" (sigma {words(sigma)} pixels)"}
    for key, verb in CHANCES.items():
        if isinstance(rest.get(key), int | float):
            said.append(f"{verb} with probability {rest.pop(key):g}{more.get(key) or ''}")
    return ", ".join([*said, words(rest)] if rest else said)


def setup(run: Run) -> list[tuple[str, str]]:
    """How it was trained, from the config; rows without content are left out."""
    model = dict(dig(run.config, "model", "init_args") or {})
    data = dict(dig(run.config, "data", "init_args") or {})
    trainer = run.config.get("trainer") or {}
    optimizer = [words(model.pop("optimizer"))] if model.get("optimizer") else []
    optimizer += [f"{words({k: model.pop(k)})}" for k in list(model) if k.startswith(("warmup", "schedul"))]
    encoder, batch = model.pop("encoder", None), data.pop("batch_size", None)
    views = [recipe(view) for view in data.pop("views", None) or []]
    if len(views) > 1 and len(set(views)) == 1:
        views = [f"{len(views)} of each example, each drawn from: {views[0]}"]
    elif len(views) > 1:
        views = [f"{i}: {view}" for i, view in enumerate(views, start=1)]
    limits = {"epochs": trainer.get("max_epochs"), "steps": trainer.get("max_steps")}
    length = [f"{limit:,} {unit}" for unit, limit in limits.items() if (limit or -1) > 0]
    length += [f"batches of {batch}"] if batch else []
    rows = [
        ("Method", ": ".join(t for t in (method(run), words(model)) if t)),
        ("Encoder", words(encoder) if encoder else ""),
        ("Data", ": ".join(t for t in (dataset(run), words(data)) if t)),
        ("Classes", _classes(run.provenance.get("class_names") or [])),
        ("Views", "; ".join(view or "unchanged" for view in views)),
        ("Optimizer", ", ".join(o for o in optimizer if o)),
        ("Length", ", ".join(length)),
    ]
    return [(term, text) for term, text in rows if text]


def method(run: Run) -> str:
    return str(run.provenance.get("method") or name(dig(run.config, "model", "class_path")))


def dataset(run: Run) -> str:
    return str(run.provenance.get("data") or name(dig(run.config, "data", "class_path")))


def hardware(run: Run) -> str:
    found = run.provenance.get("hardware") or {}
    gpus = found.get("gpus") or []
    parts = [count_of(gpus)] if gpus else []
    parts += [(text or "{}").format(found[key]) for key, text in SIZES.items() if found.get(key)]
    return re.sub(r"\b1 cores", "1 core", ", ".join(parts))


def count_of(gpus: list[str]) -> str:
    return ", ".join(
        f"{gpus.count(gpu)} x {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in dict.fromkeys(gpus)
    )


def origin(run: Run) -> list[tuple[str, str]]:
    """Where the numbers come from; what was not recorded is left out."""
    said = run.provenance
    commit = said.get("commit")
    if commit and said.get("dirty"):
        commit = f"{commit}, with uncommitted changes"
    versions = ", ".join(f"{k} {v}" for k, v in (said.get("versions") or {}).items())
    rows = [
        ("Command", said.get("command")),
        ("Commit", commit),
        ("Started", said.get("started")),
        ("Ended", said.get("ended")),
        ("Host", said.get("host")),
        ("Hardware", hardware(run)),
        ("Processes", said.get("processes")),
        ("Precision", said.get("precision") or dig(run.config, "trainer", "precision")),
        ("Seed", said.get("seed", run.config.get("seed_everything"))),
        ("Versions", versions),
    ]
    return [(term, str(text)) for term, text in rows if text not in (None, "")]


def _classes(names: list) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(str(n) for n in names[:20]) + more
