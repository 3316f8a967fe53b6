"""What differs between configs: dotted keys, those that are equal in all left out."""

from typing import Any

from reports.compare.members import Member
from reports.words import words

UNINTERESTING = (
    "seed_everything",
    "experiment",
    "runs_dir",
    "ckpt_path",
    "trainer.default_root_dir",
    "trainer.logger",
)


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """A config as dotted keys; a list or a class with its options stays one value, said in words."""
    if not isinstance(tree, dict):
        return {prefix: words(tree)}
    found: dict[str, str] = {}
    for key, value in tree.items():
        inner = {} if key == "init_args" else {"": f"{prefix}.{key}".lstrip(".")}
        found |= flat(value, inner.get("", prefix))
    return found


def differences(found: list[Member]) -> list[dict]:
    """A row a key: its value in each member, None where it is not set."""
    flats = [flat(member.first.config) for member in found]
    keys = list(dict.fromkeys(key for config in flats for key in config))
    rows = []
    for key in keys:
        values = [config.get(key) for config in flats]
        if len(set(values)) > 1 and not key.startswith(UNINTERESTING):
            rows.append({"key": key, "values": values})
    return rows
