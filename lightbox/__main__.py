"""The command `lightbox`, also `python -m lightbox`: cli.py, from any working directory."""

import sys
from pathlib import Path

from lightbox import ROOT


def find_config(arg: str) -> str:
    """A shipped config is found as `configs/NAME.yaml` where the working directory has no such file."""
    option, equals, path = arg.rpartition("=")
    is_shipped = path.startswith("configs/") and (ROOT / path).is_file() and not Path(path).exists()
    return f"{option}{equals}{ROOT / path}" if is_shipped else arg


def main() -> int:
    """Run cli.py with the arguments of the command line and return its exit status."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a config may name classes of files there
    from cli import run_as_program

    sys.argv[1:] = map(find_config, sys.argv[1:])
    return run_as_program()


if __name__ == "__main__":
    sys.exit(main())
