"""docs/methods: a page for each method, made of its docstrings, its configs and its kept runs.

`python -m launch.method_pages` writes them; a test says where they are no longer what it would write.
"""

from pathlib import Path

from reports.method_page import BREAKS, list_configs, list_kept, render_method
from reports.method_source import MethodSource, read_methods
from reports.pages import save_page
from reports.results import render_markdown

ROOT = Path(__file__).parent.parent
FOLDER = Path("docs/methods")


def render_pages(root: Path) -> dict[str, str]:
    """Name of the file in docs/methods -> its text."""
    sources, files = read_methods(root), {}
    for source in sources:
        files[f"{source.name}.md"], curve = render_method(root, source)
        if curve:
            files[f"{source.name}.svg"] = curve
    return {"README.md": render_index(root, sources)} | files


def render_index(root: Path, sources: list[MethodSource]) -> str:
    """The table of all methods."""
    rows = [["Method", "What it does", "Configs", "Kept runs"]]
    for source in sources:
        configs = list_configs(root, source)
        kept = [name for name in list_kept(root, source, configs) if BREAKS not in name]
        idea = (source.title.partition(": ")[2] or source.title).rstrip(".")
        names = ", ".join(f"[{name}](../../configs/{name}.yaml)" for name in configs)
        rows.append([f"[{source.class_name}]({source.name}.md)", idea, names, str(len(kept) or "-")])
    about = "A page for each method: its idea, its equation, the lines that are it, and what a kept run of it reached."
    note = "Made by `python -m launch.method_pages` from docstrings, configs and [results/](../../results)."
    return "\n\n".join(["# Methods", about, render_markdown(rows), note]) + "\n"


def main() -> None:
    pages = render_pages(ROOT)
    for stale in (ROOT / FOLDER).glob("*.*"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        save_page(ROOT / FOLDER / name, text)
    print(f"{len(pages)} files in {FOLDER}")


if __name__ == "__main__":
    main()
