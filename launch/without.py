"""Callbacks and loggers that are switched on by default and off by name."""

from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.hints import nearest_hint
from common.renamed import CLASSES


def short_class_name(item: Any) -> str:
    return item.class_path.rsplit(".", 1)[-1]


def current_names(without: list[str], items: list) -> list[str]:
    """Names of callbacks and loggers to leave out, those of old commands as they are called today.

    Raises:
        MisconfigurationException: no callback or logger is called so.
    """
    without = [CLASSES.get(name, name) for name in without]
    names = [short_class_name(item) for item in items]
    for name in without:
        if name not in names:
            hint = nearest_hint(name, names, "known one")
            raise MisconfigurationException(f"without: no callback or logger is called {name!r}{hint}")
    return without


def read_figure_name(item: Any) -> str | None:
    """The option `name` of a callback; what a logger calls a run is no name of figures."""
    is_logger = "save_dir" in (item.get("init_args") or {})
    return None if is_logger else (item.get("init_args") or {}).get("name")


def drop_by_name(items: list, without: list[str]) -> list:
    """Callbacks or loggers, less those switched off by name. Of a class given twice the later one counts, but a
    callback that gets another `name` for its figures stands beside the first."""
    latest = {(item.class_path, read_figure_name(item)): item for item in items}
    return [item for item in latest.values() if short_class_name(item) not in without]
