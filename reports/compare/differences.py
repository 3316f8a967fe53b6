"""What differs between configs: dotted keys, those that are equal in all left out."""

from typing import Any

from reports.compare.members import Member
from reports.words import recipe, words

UNINTERESTING = (
    "seed_everything",
    "experiment",
    "runs_dir",
    "ckpt_path",
    "trainer.default_root_dir",
    "trainer.logger",
)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys without `init_args`; lists stay one value, and what is not set is left out."""
    if not isinstance(tree, dict):
        return {} if tree is None else {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, prefix if key == "init_args" else f"{prefix}.{key}".lstrip("."))
    return found


def differences(found: list[Member]) -> list[dict]:
    """A row a key: its value in each member, in words, None where it is not set; of lists, what not all have."""
    flats = [flat(member.first.config) for member in found]
    rows = []
    for key in dict.fromkeys(key for config in flats for key in config):
        values = [config.get(key) for config in flats]
        if key.startswith(UNINTERESTING) or all(value == values[0] for value in values):
            continue
        if all(isinstance(value, list) for value in values):
            values = [
                [item for item in value if not all(item in other for other in values)] for value in values
            ]
        rows.append({"key": key, "values": [said(key, value) for value in values]})
    return rows


def said(key: str, value: Any) -> str | None:
    if value is None or value == []:
        return None
    if isinstance(value, list):
        say = recipe if key.endswith("views") else words
        return "; ".join(say(item) or "unchanged" for item in value)
    return words(value)
