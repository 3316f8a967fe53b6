"""How threads wait is set before torch is imported, and never over what the user has set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.threads import SPIN_COUNT, set_spin_count

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE"}])
def test_what_the_user_has_set_stays(chosen):
    environment = dict(chosen)
    set_spin_count(environment)
    assert environment == chosen


def test_it_is_set_before_torch_is_imported():
    program = """
import os, sys
from importlib.abc import MetaPathFinder

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit(0)

sys.meta_path.insert(0, Finder())
import cli
cli.main(["fit"])
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(SPIN_COUNT)], done.stderr
