"""What differs between configs: dotted keys, those that are equal in all left out."""

from typing import Any

from reports.compare.members import Member
from reports.formatting import format_option, format_recipe

UNINTERESTING = (
    "seed_everything",
    "experiment",
    "runs_dir",
    "ckpt_path",
    "trainer.default_root_dir",
    "trainer.logger",
)


def flatten_config(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys without `init_args`; lists stay one value, and what is not set is left out."""
    if not isinstance(tree, dict):
        return {} if tree is None else {prefix: tree}
    options: dict[str, Any] = {}
    for key, value in tree.items():
        options |= flatten_config(value, prefix if key == "init_args" else f"{prefix}.{key}".lstrip("."))
    return options


def list_differences(members: list[Member]) -> list[dict]:
    """A row a key: its value in each member, in words, None where it is not set; of lists, what not all have."""
    configs = [flatten_config(member.first.config) for member in members]
    rows = []
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key) for config in configs]
        if key.startswith(UNINTERESTING) or all(value == values[0] for value in values):
            continue
        if all(isinstance(value, list) for value in values):
            values = [
                [item for item in value if not all(item in other for other in values)] for value in values
            ]
        rows.append({"key": key, "values": [describe_value(key, value) for value in values]})
    return rows


def describe_value(key: str, value: Any) -> str | None:
    if value is None or value == []:
        return None
    if isinstance(value, list):
        format_item = format_recipe if key.endswith("views") else format_option
        return "; ".join(format_item(item) or "unchanged" for item in value)
    return format_option(value)
