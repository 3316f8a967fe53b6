"""What the source of a method says of it: idea, options, the lines of its step, and the equations of its losses."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

LINK = re.compile(r"https?://[^\s,;)]+[^\s,;).]")
LOSSES = ["ssl_modules", "losses"]
STATE_MOVES = ("on_after_backward", "optimizer_step")  # what a method does beside its step


@dataclass(frozen=True)
class MethodSource:
    """A method's file, read and not run.

    Args:
        name: of the file, without `.py`; `class_name` is the method in it.
        module_docstring, class_docstring: as they stand there.
        steps: sources of `training_step` and of the class's own functions that it needs, in their order; of a method
            that changes another, of all functions but the constructor.
        parent: the file of the method that it changes, without `.py`; else empty.
        losses: (path of the file, name, docstring) of the losses that say what they return or where they are from.
    """

    name: str
    class_name: str
    module_docstring: str
    class_docstring: str
    steps: list[str]
    parent: str
    losses: list[tuple[str, str, str]]

    @property
    def title(self) -> str:
        """The first line of the file."""
        return self.module_docstring.splitlines()[0]

    @property
    def papers(self) -> list[str]:
        """Links of the file's own docstring, then of the losses', each once."""
        texts = [self.module_docstring, *(docstring for *_, docstring in self.losses)]
        return list(dict.fromkeys(link for text in texts for link in LINK.findall(text)))


def read_methods(root: Path) -> list[MethodSource]:
    """Read the methods of `root`/ssl_modules: classes with a `training_step`, or whose base has one, one in a file."""
    sources = (read_method(file, root) for file in sorted((root / "ssl_modules").glob("*.py")))
    return [source for source in sources if source]


def read_method(file: Path, root: Path) -> MethodSource | None:
    """Read one file; None where it holds no method."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in (part for part in tree.body if isinstance(part, ast.ClassDef)):
        parent = find_parent(node, tree, root)
        if parent or "training_step" in list_functions(node):
            return MethodSource(
                name=file.stem,
                class_name=node.name,
                module_docstring=ast.get_docstring(tree) or "",
                class_docstring=ast.get_docstring(node) or "",
                steps=[cut_source(text, function) for function in select_steps(node)],
                parent=parent,
                losses=read_losses(tree, root),
            )
    return None


def find_parent(node: ast.ClassDef, tree: ast.Module, root: Path) -> str:
    """The file, without `.py`, of the method that a class is derived from; empty if there is none."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    for part in tree.body:
        if isinstance(part, ast.ImportFrom) and bases & {alias.name for alias in part.names}:
            file = root / Path(*part.module.split(".")).with_suffix(".py")
            if file.parent == root / "ssl_modules" and read_method(file, root):
                return file.stem
    return ""


def list_functions(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}


def select_steps(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """`training_step`, what it needs of the class itself, and what moves the method's state."""
    functions = list_functions(node)
    if "training_step" not in functions:
        return [function for name, function in functions.items() if name != "__init__"]
    needed, waiting = set(), ["training_step", *(name for name in STATE_MOVES if name in functions)]
    while waiting:
        needed.add(name := waiting.pop())
        own = {part.attr for part in ast.walk(functions[name]) if isinstance(part, ast.Attribute)}
        waiting += [other for other in own & functions.keys() if other not in needed]
    return [function for name, function in functions.items() if name in needed]


def cut_source(text: str, function: ast.FunctionDef) -> str:
    """The lines of a function, with its decorators, at the left margin."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return dedent("\n".join(text.splitlines()[first - 1 : function.end_lineno]))


def read_losses(tree: ast.Module, root: Path) -> list[tuple[str, str, str]]:
    """Functions and classes that a file imports from ssl_modules.losses, but for helpers with a line of docstring."""
    losses = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[:2] == LOSSES:
            file = Path(*node.module.split(".")).with_suffix(".py")
            parts = ast.parse((root / file).read_text(encoding="utf-8")).body
            docstrings = {
                part.name: ast.get_docstring(part) or ""
                for part in parts
                if isinstance(part, ast.FunctionDef | ast.ClassDef)
            }
            names = [alias.name for alias in node.names if alias.name in docstrings]
            losses += [
                (file.as_posix(), name, docstrings[name])
                for name in names
                if LINK.search(docstrings[name]) or "Returns:" in docstrings[name]
            ]
    return losses
