"""Values as text: numbers, dates, durations, and options of a config."""

import math
from collections.abc import Iterable
from datetime import datetime

CHANCES = {
    "flip": "mirrored",
    "jitter": "colors jittered",
    "gray": "without color",
    "blur": "blurred",
    "solarize": "solarized",
}


def strip_module(class_path: object) -> str:
    """ssl_modules.simclr.SimCLR -> SimCLR."""
    return str(class_path).rsplit(".", 1)[-1] if class_path else ""


def format_option(value: object) -> str:
    """Any value of a config on one line."""
    if isinstance(value, dict) and "class_path" in value:
        options = format_option(value.get("init_args") or {})
        return strip_module(value["class_path"]) + (f" ({options})" if options else "")
    if isinstance(value, dict):
        pairs = ((str(key).replace("_", " "), option) for key, option in value.items() if option is not None)
        return ", ".join(f"{key} {format_option(option)}" for key, option in pairs)
    if isinstance(value, list):
        return "[" + ", ".join(map(format_option, value)) + "]"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_recipe(recipe: object) -> str:
    """An augmentation as a reader says it; options that do nothing are left out, unknown ones come last."""
    if not isinstance(recipe, dict) or "class_path" in recipe:
        return format_option(recipe)
    options = {key: value for key, value in recipe.items() if value not in (0, None, [1, 1])}
    parts = []
    match options.pop("scale", None):
        case [int() | float() as low, int() | float() as high]:
            parts.append(f"crops of {100 * low:g} to {100 * high:g} % of the area")
    names = ("brightness", "contrast", "saturation", "hue")
    jitter = {name: options.pop(name) for name in names if name in options}
    sigma = options.pop("sigma", None)
    details = {
        "jitter": jitter and f" ({format_option(jitter)})",
        "blur": sigma and f" (sigma {format_option(sigma)} pixels)",
    }
    for key, verb in CHANCES.items():
        if isinstance(options.get(key), int | float):
            parts.append(f"{verb} with probability {options.pop(key):g}{details.get(key) or ''}")
    return ", ".join([*parts, format_option(options)] if options else parts)


def format_date(timestamp: object) -> str:
    """2026-11-21T22:10:04 -> 21 November 2026; '' where it is no date."""
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def format_duration(seconds: float) -> str:
    """38 s, 21 min, 3 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_count(count: int) -> str:
    """11.2 million, 272 thousand, 650."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{word}"
    return str(count)


def format_number(value: float) -> str:
    """A short number: 12,000  3.2  0.0004  1e-5."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.2e}"
    if "e" in text:
        digits, power = text.split("e")
        text = f"{float(digits):g}e{int(power)}"
    return text.replace("-", "−", 1) if text.startswith("-") else text  # noqa: RUF001


def format_points(points: float) -> str:
    """A difference of percentages with its sign: +1.2."""
    return f"{points:+.1f}".replace("-", "−")  # noqa: RUF001


def format_fraction(fraction: float) -> str:
    """0.123 -> 12 %."""
    return f"{100 * fraction:.0f} %"


def join_names(names: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def join_distinct(values: Iterable[str]) -> str:
    """Different values in their order, empty ones left out; a dash where there are none."""
    return "; ".join(dict.fromkeys(value for value in values if value)) or "-"


def group_gpus(names: list[str]) -> str:
    """'4 x NVIDIA H100', or names of different ones."""
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())
