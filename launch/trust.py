"""Which classes a config may name: the project's own, the user's beside it, and those of the libraries it is built on."""

import sys
from itertools import pairwise
from pathlib import Path

from jsonargparse import set_parsing_settings

FLAG = "--allow_any_class"
LIBRARIES = ("lightning", "sklearn", "timm", "torch", "torchmetrics", "torchvision")
# in these libraries, what runs a file or a command, or fetches code
NEVER = (
    *(
        "torch.hub",
        "torch.jit",
        "torch.load",
        "torch.multiprocessing",
        "torch.package",
        "torch.serialization",
    ),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo", "torch.distributed.run", "torch.distributed.rpc"),
)


def only_known_classes(root: Path, args: list[str]) -> None:
    """Refuse every other class in a config, before its module is imported, unless the command line has `FLAG true`.

    jsonargparse looks at the path that is given and at where the object is defined, so that `module.os.system` is refused,
    too. A config cannot grant itself the right: only the command line is asked.
    """
    if granted(args):
        return
    own = {name for folder in (root, Path.cwd()) for name in modules(folder)}
    set_parsing_settings(import_path_denylist=["*", *NEVER], import_path_allowlist=[*LIBRARIES, *sorted(own)])


def granted(args: list[str]) -> bool:
    words = [word for arg in args for word in arg.split("=", 1)]
    return [FLAG, "true"] in [[word, value.lower()] for word, value in pairwise(words)]


def modules(folder: Path) -> list[str]:
    """Names of the modules and packages that lie in a folder, less those that Python has itself."""
    files = [path.stem for path in folder.glob("*.py")]
    packages = [path.parent.name for path in folder.glob("*/*.py")]
    return [name for name in files + packages if name.isidentifier() and name not in sys.stdlib_module_names]
