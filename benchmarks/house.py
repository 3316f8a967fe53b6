"""The shape of the code as a table: how large its rooms and classes are, and what its names say.

    python benchmarks/house.py                       # of this checkout
    python benchmarks/house.py --root CHECKOUT       # of another one

Outside tests and benchmarks: one-word names are functions at the top of a module without an underscore in their name;
names with two meanings are functions and classes at the top of modules that more than one file defines; words that say
what happened to a thing are variables and parameters called `found`, `said` and so on, each counted once a function.
Arrows are imports between files of callbacks/.
"""

import argparse
import ast
import json
from collections import Counter, defaultdict
from pathlib import Path

ROOMS = (
    *("common", "ssl_modules", "datamodules", "callbacks", "reports", "model_summary", "anatomy", "launch"),
    *("benchmarks", "tests"),
)
WORDS = ("found", "said", "known", "own", "shown", "seen")
Functions = ast.FunctionDef | ast.AsyncFunctionDef


def parse_files(root: Path) -> dict[Path, ast.Module]:
    """Path from the root -> its tree, of all files in the rooms."""
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))] + [root / "cli.py"]
    return {path.relative_to(root): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def count_lines(root: Path) -> dict[str, int]:
    rooms = {room: sorted((root / room).rglob("*.py")) for room in ROOMS}
    return {
        room: sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        for room, paths in rooms.items()
        if paths
    }


def class_sizes(tree: ast.Module) -> list[tuple[int, int, str]]:
    """(lines, methods, name) of each class."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [
        (c.end_lineno - c.lineno + 1, sum(isinstance(n, Functions) for n in c.body), c.name) for c in classes
    ]


def assigned_words(tree: ast.Module) -> Counter:
    """How many functions assign, or take as a parameter, each of WORDS."""
    counts: Counter[str] = Counter()
    for function in (node for node in ast.walk(tree) if isinstance(node, Functions | ast.Lambda)):
        names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        names |= {n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg)}
        counts.update(names & {*WORDS})
    return counts


def callback_arrows(trees: dict[Path, ast.Module]) -> int:
    """Imports of one file of callbacks/ by another."""
    files = {
        ".".join(path.with_suffix("").parts): tree
        for path, tree in trees.items()
        if path.parts[0] == "callbacks"
    }
    imports = {
        (name, node.module)
        for name, tree in files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in files
    }
    return len(imports)


def measure_house(root: Path) -> dict:
    trees = parse_files(root)
    code = {path: tree for path, tree in trees.items() if path.parts[0] not in ("tests", "benchmarks")}
    functions = [(path, n) for path, tree in code.items() for n in tree.body if isinstance(n, Functions)]
    places: dict[str, set[Path]] = defaultdict(set)
    for path, tree in code.items():
        for node in tree.body:
            if isinstance(node, Functions | ast.ClassDef) and not node.name.startswith("__"):
                places[node.name].add(path)
    sizes = sorted(size for tree in code.values() for size in class_sizes(tree))
    tests = [
        n.name
        for path, tree in trees.items()
        if path.parts[0] == "tests"
        for n in tree.body
        if isinstance(n, Functions) and n.name.startswith("test_")
    ]
    words = sum((assigned_words(tree) for tree in code.values()), Counter())
    base = next(size for size in class_sizes(trees[Path("ssl_modules/base.py")]) if size[2] == "SSLModule")
    one_word = [f"{path}:{n.name}" for path, n in functions if "_" not in n.name.strip("_")]
    return {
        "lines": count_lines(root),
        "largest_class": {"name": sizes[-1][2], "lines": sizes[-1][0], "methods": sizes[-1][1]},
        "SSLModule": {"lines": base[0], "methods": base[1]},
        "functions": len(functions),
        "one_word_functions": one_word,
        "two_meanings": {name: sorted(map(str, files)) for name, files in places.items() if len(files) > 1},
        "words": {word: words[word] for word in WORDS},
        "callback_arrows": callback_arrows(trees),
        "tests": len(tests),
        "tests_over_60_letters": sum(len(name.removeprefix("test_")) >= 60 for name in tests),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--names", action="store_true", help="list the names that are counted")
    parser.add_argument("--json", type=Path, help="write all of it here too")
    args = parser.parse_args()
    house = measure_house(args.root)
    one_word, largest, base = house["one_word_functions"], house["largest_class"], house["SSLModule"]
    count = house["functions"]
    rows = {f"lines of {room}": f"{lines:,}" for room, lines in house["lines"].items()}
    rows |= {
        "largest class": f"{largest['name']}, {largest['lines']} lines, {largest['methods']} methods",
        "SSLModule": f"{base['lines']} lines, {base['methods']} methods",
        "functions with a one-word name": f"{len(one_word)} of {count}, {len(one_word) / count:.0%}",
        "names with two meanings": len(house["two_meanings"]),
        f"names {', '.join(WORDS)}": sum(house["words"].values()),
        "arrows between files of callbacks": house["callback_arrows"],
        "tests": f"{house['tests']:,}, {house['tests_over_60_letters']:,} with 60 letters or more",
    }
    for name, value in rows.items():
        print(f"{name:<45} {value}")
    if args.names:
        print(
            "\ntwo meanings:",
            *(f"{name}: {', '.join(files)}" for name, files in house["two_meanings"].items()),
            sep="\n  ",
        )
        print("\none word:", *one_word, sep="\n  ")
    if args.json:
        args.json.write_text(json.dumps(house, indent=1))


if __name__ == "__main__":
    main()
