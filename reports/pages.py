"""How a page is made: templates filled in, in one file that holds all it shows and loads nothing."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from common.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["bold"] = bold
    found.globals["library"] = library
    return found


def bold(text: str) -> Markup:
    """*stars* to bold, and a per cent sign that stays with its number."""
    parts = text.replace(" %", "\u00a0%").split("*")
    return Markup("").join(
        Markup("<b>{}</b>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts)
    )


def library(name: str) -> Markup:
    """A file that is kept as its authors released it."""
    return Markup((TEMPLATES / "vendor" / name).read_text(encoding="utf-8"))


def render(template: str, **context: object) -> str:
    return environment().get_template(template).render(**context)


def save(target: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    with atomic_write(target, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return target
