"""Which classes a config may name: the project's, those of files beside it, those of the libraries it is built on."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch.utilities.exceptions import MisconfigurationException

FLAG = "--allow_any_class"
LIBRARIES = ("lightning", "sklearn", "timm", "torch", "torchmetrics", "torchvision")
# what of these runs files or commands, or fetches code
DENIED_MODULES = tuple(
    f"torch.{name}"
    for name in (
        "distributed.rpc",
        "distributed.run",
        "hub",
        "jit",
        "load",
        "multiprocessing",
        "package",
        "serialization",
        "utils.cpp_extension",
        "utils.model_zoo",
    )
)


def restrict_classes(root: Path, args: list[str]) -> None:
    """Refuse every other class in a config before its module is imported, unless the command line says `FLAG true`.

    jsonargparse looks at the path that is given and at where the object is defined: `torch.os.system` is refused, too.
    A config cannot grant itself the right, since only the command line is asked.
    """
    if is_unrestricted(args):
        return
    local_modules = {name for folder in (root, Path.cwd()) for name in list_modules(folder)}
    set_parsing_settings(
        import_path_denylist=["*", *DENIED_MODULES],
        import_path_allowlist=[*LIBRARIES, *sorted(local_modules)],
    )


def is_unrestricted(args: list[str]) -> bool:
    """Whether the command line allows any class."""
    words = [word for arg in args for word in arg.split("=", 1)]
    return [FLAG, "true"] in [[word, value.lower()] for word, value in pairwise(words)]


def check_class_rights(config: Any) -> None:
    """No config can grant itself more than its reader did."""
    if config.allow_any_class and not is_unrestricted(sys.argv):
        raise MisconfigurationException(
            "allow_any_class: a config cannot allow this, only the command line can"
        )
    if not config.weights_only:
        raise MisconfigurationException(
            "weights_only: a checkpoint that is not of tensors and plain types is never read"
        )
    config.allow_any_class = False  # the stored config does not hand it on


def list_modules(folder: Path) -> list[str]:
    """Names of the modules and packages that lie in a folder, less those that Python has itself or pip installed."""
    if folder.name in ("site-packages", "dist-packages"):
        return []
    files = [path.stem for path in folder.glob("*.py")]
    packages = [path.parent.name for path in folder.glob("*/*.py")]
    return [name for name in files + packages if name.isidentifier() and name not in sys.stdlib_module_names]
