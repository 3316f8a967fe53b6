"""Options of callbacks that would only fail when a figure is drawn, often in the last epoch, are refused at once."""

from importlib.util import find_spec
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

PACKAGES = {"tsne": ("openTSNE", "opentsne"), "umap": ("umap", "umap-learn")}  # module, and what pip calls it


def check_callback_options(callbacks: list[Any]) -> None:
    """Raise where an option of one of the project's callbacks has no meaning, or needs a package that is missing.

    Args:
        callbacks: `class_path` and `init_args` of each.
    """
    for callback in callbacks:
        if callback.class_path.startswith("callbacks."):
            for option, value in dict(callback.get("init_args") or {}).items():
                if problem := find_problem(option, value):
                    name = callback.class_path.rpartition(".")[2]
                    raise MisconfigurationException(f"{name}: {option} is {value}: {problem}")


def find_problem(option: str, value: Any) -> str | None:
    """What to do about a value of an option, if anything."""
    if isinstance(value, list | tuple) and not value:
        return "give at least one, or leave it out"
    if option in ("how", "plane") and value in PACKAGES:
        module, package = PACKAGES[value]
        return None if find_spec(module) else f"it needs {package}: pip install {package}"
    return None
