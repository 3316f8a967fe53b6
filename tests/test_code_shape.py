"""The table of the code's shape counts what it says, on a small tree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    "cli.py": "def main():\n    pass\n",
    "ssl_modules/base.py": """
class SSLModule:
    def __init__(self, known): ...
    def forward(self): ...
    def encode(self): ...
    def load_weights(self): ...
    @property
    def size(self): ...
""",
    "callbacks/a.py": """
import torch
from callbacks import b
from callbacks.b import draw_map

def draw():
    found = [seen for seen in range(3)]
    def inner(): ...
    if said := found:
        return said
""",
    "callbacks/b.py": "def draw(): ...\ndef draw_map(): ...\n",
    "tests/test_a.py": "def test_a_long_name(): ...\ndef draw(): ...\n",
}


@pytest.fixture
def shape(tmp_path) -> dict:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    options = ["--root", tmp_path, "--json", tmp_path / "shape.json"]
    command = [sys.executable, "benchmarks/code_shape.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "longest test name: 11 letters, a_long_name" in done.stdout
    return json.loads((tmp_path / "shape.json").read_text())


def test_lines_names_and_imports_are_counted(shape):
    folders = shape["folders"]
    assert (folders["top"]["lines"], folders["callbacks"]["files"]) == (2, 2)
    assert folders["callbacks"]["functions"] == {"count": 3, "one_word": 2}
    assert folders["ssl_modules"]["methods"] == {"count": 2, "one_word": 1}  # encode, load_weights
    assert shape["ssl_module"]["lines"] == 7 and shape["ssl_module"]["methods"] == 5
    assert shape["shared_names"] == {"draw": ["callbacks/a.py", "callbacks/b.py"]}
    assert shape["vague_variables"] == {"found": 1, "said": 1, "known": 1, "own": 0, "shown": 0, "seen": 1}
    assert shape["callback_imports"] == [["callbacks.a", "callbacks.b"]]
