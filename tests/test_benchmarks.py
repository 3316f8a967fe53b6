"""Every benchmark runs with tiny sizes, prints its table and writes its numbers."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.epoch import write_cifar10

ROOT = Path(__file__).parent.parent
TINY = {  # name: (options, packages it compares with, what its table says)
    "augmentation": ("--images 256 --seconds 0 --eager", [], ["ours, exact", "ours, fast"]),
    "autoencoder": ("--images 200 --batch 4 --turn 4 --rounds 1", [], ["cli.py", "torchvision bf16"]),
    "conv": ("--images 2 --repeats 3", [], ["ratio", "yes"]),
    "galaxies": ("--images 10 --rounds 1", [], ["PIL one by one", "MB to decode"]),
    "growth": ("--images 64 --batch 4 --rounds 1", [], ["us an image", "256"]),
    "limits": ("--size 64 --batch 4 --encoders pooled --seconds 0 --rounds 1", [], ["product 64", "pooled"]),
    "micro_batch": ("--images 32 --sizes 8", [], ["MB at most", "ratio"]),
    "nt_xent": ("--batches 8 16 --rounds 1", ["lightly"], ["MB at most", "16"]),
    "quality": (
        "--data_dir {data} --sides cli.py lightly --epochs 1 --peer_epochs 1 --targets 0.05 1",
        ["lightly"],
        ["min to 5%", "cli.py", "after 1 epochs"],
    ),
    "start": ("--rounds 1 --warm", [], ["first step done", "import lightning"]),
    "trainer": ("--images 256 --steps 1 --rounds 1", [], ["clock, means", "OnlineProbe", "CSVLogger"]),
}


def run(name: str, options: str, folder: Path) -> subprocess.CompletedProcess:
    words = options.format(data=folder).split()
    command = [sys.executable, f"benchmarks/{name}.py", *words, "--json", folder / f"{name}.json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_each_prints_its_table_and_writes_its_numbers(tmp_path):
    write_cifar10(tmp_path, 600)
    with ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(run, name, options, tmp_path) for name, (options, *_) in TINY.items()}
    for name, (_, peers, headings) in TINY.items():
        process = runs[name].result()
        if not all(map(find_spec, peers)):
            assert "pip install -e .[bench]" in process.stderr
            continue
        assert process.returncode == 0, f"{name}:\n{process.stderr[-2000:]}"
        assert [words for words in headings if words not in process.stdout] == []
        assert json.loads((tmp_path / f"{name}.json").read_text())
