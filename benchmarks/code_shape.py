"""The shape of the code: sizes, one-word names, names with several meanings, imports between callbacks.

    python benchmarks/code_shape.py --json code_shape.json

What is counted:
- lines: of all .py files of a folder, blank ones and comments included; "top" is what lies beside the folders.
- functions: those at the top level of a module. Methods: those of classes at any level, less properties, names with two
  underscores around them and the hooks that Lightning and torch call by name (`on_*`, `configure_*`, `*_step`,
  `*_dataloader` and those in HOOKS). Functions inside functions are not counted.
- one word: a name without an underscore between its words, leading ones aside.
- several meanings: functions and classes at the top level of more than one file outside tests/; `main` is left out.
- vague variables: each place where a name in VAGUE is assigned, a loop's variable or a parameter, in all folders.
- imports between callbacks: pairs of a file in callbacks/ and another one there that it imports.
- test names: without `test_`.
"""

import argparse
import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

FOLDERS = (
    *("ssl_modules", "datamodules", "callbacks", "reports", "model_summary", "common", "launch", "lightbox"),
    *("benchmarks", "tests"),
)
HOOKS = (
    *("forward", "setup", "teardown", "prepare_data", "state_dict", "load_state_dict", "extra_repr", "train"),
    *("fit", "validate", "test", "predict", "transfer_batch_to_device", "lr_scheduler_step", "state_key"),
)
HOOK_PATTERN = re.compile(rf"__\w+__|on_\w+|configure_\w+|\w+_step|\w+_dataloader|{'|'.join(HOOKS)}")
VAGUE = ("found", "said", "known", "own", "shown", "seen")
PROPERTIES = ("property", "cached_property", "setter")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_modules(root: Path) -> dict[Path, ast.Module]:
    """Syntax trees by path relative to the root."""
    paths = [*root.glob("*.py"), *(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))]
    return {path.relative_to(root): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def name_folder(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else "top"


def count_lines(node: ast.stmt) -> int:
    """Lines of a class or function, its decorators included."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return node.end_lineno - first + 1


def is_property(function: Function) -> bool:
    names = [getattr(node, "attr", getattr(node, "id", "")) for node in function.decorator_list]
    return any(name in PROPERTIES for name in names)


def list_methods(tree: ast.AST) -> Iterator[Function]:
    """All methods of all classes of a tree, without properties and hooks."""
    for node in ast.walk(tree):
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, Function) and not is_property(part) and not HOOK_PATTERN.fullmatch(part.name):
                yield part


def has_one_word(name: str) -> bool:
    return "_" not in name.strip("_")


def count_names(names: list[str]) -> dict[str, int]:
    return {"count": len(names), "one_word": sum(map(has_one_word, names))}


def measure_folders(root: Path, modules: dict[Path, ast.Module]) -> dict[str, dict]:
    """Files, lines, functions and methods of each folder, in the order of FOLDERS."""
    table = {}
    for folder in ("top", *FOLDERS):
        trees = {path: tree for path, tree in modules.items() if name_folder(path) == folder}
        functions = [node.name for tree in trees.values() for node in tree.body if isinstance(node, Function)]
        methods = [method.name for tree in trees.values() for method in list_methods(tree)]
        table[folder] = {
            "files": len(trees),
            "lines": sum(len((root / path).read_text(encoding="utf-8").splitlines()) for path in trees),
            "functions": count_names(functions),
            "methods": count_names(methods),
        }
    return table


def measure_classes(modules: dict[Path, ast.Module]) -> list[dict]:
    """File, lines and number of methods (hooks and properties included) of each class outside tests, largest first."""
    classes = []
    for path, tree in modules.items():
        for node in ast.walk(tree) if name_folder(path) != "tests" else ():
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(part, Function) for part in node.body)
                classes.append(
                    {"name": node.name, "file": str(path), "lines": count_lines(node), "methods": methods}
                )
    return sorted(classes, key=lambda entry: -entry["lines"])


def find_shared_names(modules: dict[Path, ast.Module]) -> dict[str, list[str]]:
    """Functions and classes that more than one file outside tests defines, with these files."""
    files = defaultdict(set)
    for path, tree in modules.items():
        for node in tree.body if name_folder(path) != "tests" else ():
            if isinstance(node, Function | ast.ClassDef) and node.name != "main":
                files[node.name].add(str(path))
    return {name: sorted(paths) for name, paths in sorted(files.items()) if len(paths) > 1}


def count_vague_variables(modules: dict[Path, ast.Module]) -> dict[str, int]:
    counts = Counter()
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                counts[node.arg] += 1
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                counts[node.id] += 1
    return {name: counts[name] for name in VAGUE}


def list_imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a file may import as a module, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_callback_imports(modules: dict[Path, ast.Module]) -> list[tuple[str, str]]:
    names = {".".join(path.with_suffix("").parts) for path in modules if name_folder(path) == "callbacks"}
    return [
        (source, target)
        for source in sorted(names)
        for target in sorted(names & set(list_imports(modules[Path(*source.split(".")).with_suffix(".py")])))
    ]


def find_longest_test(modules: dict[Path, ast.Module]) -> str:
    names = [
        node.name
        for path, tree in modules.items()
        if name_folder(path) == "tests"
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("test_")
    ]
    return max(names, key=len, default="").removeprefix("test_")


def measure_tree(root: Path) -> dict:
    modules = read_modules(root)
    classes = measure_classes(modules)
    return {
        "folders": measure_folders(root, modules),
        "largest_class": classes[0],
        "ssl_module": next(entry for entry in classes if entry["name"] == "SSLModule"),
        "shared_names": find_shared_names(modules),
        "vague_variables": count_vague_variables(modules),
        "callback_imports": find_callback_imports(modules),
        "longest_test": find_longest_test(modules),
    }


def format_names(count: int, one_word: int) -> str:
    """Two columns: how many names there are, and the share of them that are one word."""
    return f"{count:>8}{f'{one_word / count:.0%}' if count else '-':>8}"


def format_table(shape: dict) -> str:
    folders = shape["folders"]
    lines = [
        f"{'':<16}{'files':>6}{'lines':>8}{'functions':>11}{'1 word':>8}{'methods':>9}{'1 word':>8}",
        *(format_row(folder, [folders[folder]]) for folder in folders),
        format_row("without tests", [row for folder, row in folders.items() if folder != "tests"]),
        "",
    ]
    for title, entry in (("largest class", shape["largest_class"]), ("base of methods", shape["ssl_module"])):
        lines.append(
            f"{title}: {entry['name']} in {entry['file']}, {entry['lines']} lines, {entry['methods']} methods"
        )
    vague = ", ".join(f"{name} {count}" for name, count in shape["vague_variables"].items())
    longest = shape["longest_test"]
    lines += [
        f"vague variables: {vague}",
        f"imports between files of callbacks/: {len(shape['callback_imports'])}",
        f"longest test name: {len(longest)} letters, {longest}",
        f"names with several meanings: {len(shape['shared_names'])}",
        *(f"  {name:<20}{' '.join(files)}" for name, files in shape["shared_names"].items()),
    ]
    return "\n".join(lines)


def format_row(title: str, rows: list[dict]) -> str:
    files, lines = (sum(row[key] for row in rows) for key in ("files", "lines"))
    names = [
        [sum(row[kind][key] for row in rows) for key in ("count", "one_word")]
        for kind in ("functions", "methods")
    ]
    return f"{title:<16}{files:>6}{lines:>8}{format_names(*names[0]):>19}{format_names(*names[1]):>17}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parents[1], help="the checkout (default: this one)"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    shape = measure_tree(args.root)
    print(format_table(shape))
    if args.json:
        args.json.write_text(json.dumps(shape, indent=1))


if __name__ == "__main__":
    main()
