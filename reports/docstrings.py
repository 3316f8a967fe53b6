"""Docstrings as Markdown."""

import re
from textwrap import dedent

SECTIONS = ("Args", "Returns", "Raises")
ENTRY = re.compile(r"([\w, `*]+): (.*)")  # of a list of arguments: names, and what they are


def split_docstring(text: str) -> dict[str, str]:
    """A docstring's sections, in their order: "" is what stands before the first, "end" what follows the last."""
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in text.splitlines():
        name = line.rstrip().removesuffix(":")
        if name in SECTIONS and line.rstrip().endswith(":"):
            current = name
        elif current and line and not line.startswith(" "):
            current = "end"
        sections.setdefault(current, []).append("" if line.rstrip() == f"{current}:" else line)
    return {name: dedent("\n".join(lines)).strip() for name, lines in sections.items()}


def format_arguments(text: str) -> str:
    """The entries of a section `Args` as a list."""
    entries: list[str] = []
    for line in text.splitlines():
        if not line.startswith(" ") and (entry := ENTRY.match(line)):
            entries.append(f"- `{entry[1].replace('`', '')}`: {entry[2]}")
        elif line.strip():
            entries[-1] += f" {line.strip()}"
    return "\n".join(entries)


def format_docstring(text: str) -> str:
    """A whole docstring: what it is, its arguments as a list, what it returns, and where it comes from."""
    sections = split_docstring(text)
    parts = [sections[""], format_arguments(sections.get("Args", ""))]
    if returned := sections.get("Returns"):
        parts.append(
            f"**Returns** {returned[0].lower() + returned[1:] if returned[1:2].islower() else returned}"
        )
    return "\n\n".join(part for part in [*parts, sections.get("end", "")] if part)
