"""Pages from templates: one file that holds all it shows and loads nothing."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from common.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"


@cache
def load_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bold"] = mark_bold
    environment.globals["read_library"] = read_library
    return environment


def mark_bold(text: str) -> Markup:
    """Turns *stars* to bold, and keeps a per cent sign with its number."""
    parts = text.replace(" %", "\u00a0%").split("*")
    return Markup("").join(
        Markup("<b>{}</b>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts)
    )


def read_library(name: str) -> Markup:
    """The content of a library of somebody else, unchanged."""
    return Markup((TEMPLATES / "vendor" / name).read_text(encoding="utf-8"))


def render_template(template: str, **context: object) -> str:
    return load_environment().get_template(template).render(**context)


def save_page(target: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    with atomic_write(target, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return target
