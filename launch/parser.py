"""Errors of the command line and of YAML in one line: the key, its place, and the nearest known one."""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from common.hints import nearest_hint, nearest_names
from common.renamed import explain_removed_option, rename_config
from launch.allowed_classes import FLAG, LIBRARIES

UNKNOWN = re.compile(r"Option '([^']+)' is not accepted|not accept option '([^']+)'|arguments: --([\w.+]+)")
BAD_CLASS = re.compile(r"class_path '([^']+)':\s+(.*)")
DENIED = re.compile(r"Importing '([^']+)' is not allowed")
OPTION = re.compile(r'Parser key "([^"]+)"')
OUT_OF_RANGE = re.compile(r"Not of type \w+: give (.+), not (.+)")
NO_NAME = re.compile(r"module '([^']+)' has no attribute '([^']+)'")

# every YAML that a parser reads may name classes and options as they were once called
load_yaml = get_loader("yaml")
set_loader("yaml", lambda text: rename_config(load_yaml(text)), exceptions=(yaml.YAMLError,))


class Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's, with the lines of the examples as they are."""


class Parser(LightningArgumentParser):
    """LightningCLI's parser; an error is one line on stderr and exit status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"error: {explain_parse_error(message, sys.argv[2:], self)}", file=sys.stderr)
        sys.exit(2)


def explain_parse_error(message: str, args: list[str], parser: LightningArgumentParser) -> str:
    """jsonargparse's message in one line that says what to put right."""
    if ranges := OUT_OF_RANGE.findall(message):
        return explain_out_of_range(OPTION.findall(message)[-1], ranges, args)
    if match := UNKNOWN.search(message):
        bad = next(filter(None, match.groups()))
        settings = list(read_settings(args))
        keys = list_accepted_keys(parser, (value for *_, value in settings))
        wrong = next((part for part in bad.split(".") if part not in keys), bad)
        place = next((f"{key} in {source}" for key, source, _ in settings if wrong in key.split(".")), bad)
        if reason := explain_removed_option(wrong):
            return f"unknown key {wrong!r} ({place}): {reason}"
        return f"unknown key {wrong!r} ({place}){nearest_hint(wrong, keys, 'known one')}"
    if match := DENIED.search(message):
        return (
            f"a config may not name {match[1]}: only classes of the project, of files in this folder, and of "
            f"{', '.join(LIBRARIES)} (less what loads code); if you trust it, give {FLAG} true"
        )
    if match := BAD_CLASS.search(message):
        path, why = match.groups()
        hint = nearest_hint(path.rsplit(".", 1)[-1], list_siblings(path), "known one")
        return f"cannot use class_path {path!r}: {why}{hint}"
    if match := NO_NAME.search(message):
        module, name = match.groups()
        return (
            f"there is no {module}.{name}{nearest_hint(name, list_siblings(f'{module}.{name}'), 'known one')}"
        )
    if "Problems parsing config" in message:
        files = [args[i + 1] for i, arg in enumerate(args[:-1]) if arg in ("--config", "-c")]
        files += [arg.removeprefix("--config=") for arg in args if arg.startswith("--config=")]
        return f"{' or '.join(files)} is not valid YAML: {join_lines(message)}"
    if "Does not validate" in message:
        words = ("class_path", "init_args")
        for key, source, _ in read_settings(args):
            for part in key.split("."):
                if part not in words and nearest_names(part, words):
                    return f"unknown key {part!r} ({key} in {source}){nearest_hint(part, words, 'known one')}"
    return join_lines(message)


def explain_out_of_range(option: str, ranges: list[tuple[str, str]], args: list[str]) -> str:
    """Say which option is out of range, where it was set, and what it may be.

    Args:
        option: its name, without those of the classes it is in.
        ranges: what it may be in words, each with the value that is not so.
    """
    value = ranges[-1][1]
    places = [(key, source, leaf) for key, source, leaf in read_settings(args) if option in key.split(".")]
    places = [place for place in places if str(place[2]) == value] or places
    place = " ({} in {})".format(*places[-1][:2]) if places else ""
    return f"{option} is {value}: give {' or '.join(words for words, _ in ranges)}{place}"


def join_lines(message: str) -> str:
    return re.sub(r"\s*\n\s*", " ", message).strip()


def read_settings(args: list[str]) -> Iterator[tuple[str, str, Any]]:
    """What the user set: (dotted key, where, value), from the command line and the YAML files it names."""
    for i, arg in enumerate(args):
        if arg.startswith("--"):
            key, _, value = arg[2:].partition("=")
            value = value or (args[i + 1] if i + 1 < len(args) else "")
            yield from (
                (inner, "the command line", leaf) for inner, leaf in flatten_tree(read_yaml(value), key)
            )
            if key == "config" and Path(value).is_file():
                yield from (
                    (inner, value, leaf)
                    for inner, leaf in flatten_tree(yaml.safe_load(Path(value).read_text()))
                )


def read_yaml(text: str) -> Any:
    """What a value of the command line is as YAML; the text itself where it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def flatten_tree(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A tree of dicts and lists -> (dotted key, leaf)"""
    if isinstance(tree, dict | list):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from flatten_tree(branch, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def list_accepted_keys(parser: LightningArgumentParser, values: Iterable[Any]) -> set[str]:
    """List every key that would be accepted somewhere: options, and parameters of the classes among `values`."""
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):  # YAML is read by the verb's parser
            actions += [inner for verb in action.choices.values() for inner in verb._actions]
    keys = {part for action in actions for part in action.dest.split(".")} | {"class_path", "init_args"}
    for value in values:
        module, _, name = str(value).rpartition(".")
        cls = getattr(import_module(module), name, None) if module in sys.modules else None
        for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
            for parameter, hint in read_parameter_types(base.__init__).items():
                keys.add(parameter)
                keys |= {
                    field.name
                    for part in list_inner_types(hint)
                    if is_dataclass(part)
                    for field in fields(part)
                }
    return keys - {"return", "shared"}


def read_parameter_types(function: Callable) -> dict[str, Any]:
    """Types of its parameters, as text where they were imported for type checkers alone."""
    try:
        return get_type_hints(function)
    except NameError:
        return dict(function.__annotations__)


def list_inner_types(hint: Any) -> Iterator[Any]:
    """A type and all types inside it."""
    yield hint
    for inner in get_args(hint):
        yield from list_inner_types(inner)


def list_siblings(path: str) -> list[str]:
    """Names beside a class in its module, or nothing where the module is the wrong part."""
    module = sys.modules.get(path.rpartition(".")[0])
    return [name for name in vars(module) if not name.startswith("_")] if module else []
