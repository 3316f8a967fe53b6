"""Two processes with half of each batch train what one process trains with all of it, and say the same of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from launch.preflight import batch_norm_scope, summary_line
from tests.conftest import write_random
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.two_processes import CASES, PICTURES, RUNS, SIMCLR, TOKENS, data_of, observe, write_data

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Data of odd sizes, and what two processes trained with them, under torchrun."""
    folder = tmp_path_factory.mktemp("two")
    write_data(folder)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.two_processes", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def ranks(place) -> list[dict]:
    """What each process noted."""
    return [torch.load(place / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def two(ranks) -> dict:
    return ranks[0]


def alone(name: str, place: Path) -> dict:
    """The same of one process."""
    return observe(RUNS[name], place, place / "alone", processes=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if "bf16" not in name])
def test_two_processes_train_what_one_trains(name, two, place):
    both, one = two[name], alone(name, place)
    torch.testing.assert_close(both["losses"], one["losses"], atol=1e-5, rtol=1e-5)
    for kind in ("gradients", "weights", "buffers"):
        assert both[kind].keys() == one[kind].keys()
        for key, value in one[kind].items():
            says = f"{kind} of {key}: {{}}".format
            torch.testing.assert_close(both[kind][key], value, atol=1e-5, rtol=1e-5, msg=says)
    numbers = both["numbers"]
    assert numbers.keys() == one["numbers"].keys()
    always = {"train/loss", "train/loss_step", "train/gradient_norm", "val/knn20_top1", "val/effective_rank"}
    assert always <= numbers.keys()
    for key, values in one["numbers"].items():
        assert numbers[key] == pytest.approx(values, rel=1e-4, abs=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_both_processes_end_with_the_same_bits_and_numbers(name, ranks):
    first, second = (rank[name] for rank in ranks)
    for kind in ("gradients", "weights", "buffers"):
        assert first[kind].keys() == second[kind].keys()
        for key, value in first[kind].items():
            assert torch.equal(second[kind][key], value), f"{kind} of {key}"
    assert second["numbers"]["train/gradient_norm"] == first["numbers"]["train/gradient_norm"]


@pytest.mark.slow
def test_the_protocol_is_among_the_numbers(two):
    metrics = {"val/probe_top1", "test/probe5_top1", "untrained/test/knn20_top1", "pixels/val/probe_top1"}
    assert metrics <= two["protocol"]["numbers"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if "bf16" in name])
def test_in_bf16_they_train_the_same_but_for_its_rounding(name, two, place):
    both, one = two[name], alone(name, place)
    torch.testing.assert_close(both["losses"][0], one["losses"][0], atol=0, rtol=0.01)
    gradients = [torch.cat([g.flatten() for g in run["gradients"].values()]) for run in (both, one)]
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


@pytest.mark.slow
def test_each_figure_is_written_once_and_equals_one_process_s(two, place):
    for name in ("pictures", "pictures of tokens"):
        alone(name, place)
    figures, expected = place / "rank_0" / "figures", place / "alone" / "figures"
    files = {path.relative_to(figures) for path in figures.rglob("*.*")}
    assert not (place / "rank_1").exists()
    assert files == {path.relative_to(expected) for path in expected.rglob("*.*")}
    assert sum(file.suffix == ".png" for file in files) >= len(PICTURES) + len(TOKENS)
    for file in (file for file in files if file.suffix == ".npz"):
        with np.load(figures / file) as ours, np.load(expected / file) as theirs:
            for key in ours.keys() - {"xy"}:  # t-SNE goes its own way from any difference
                if theirs[key].dtype.kind == "U":
                    assert (ours[key] == theirs[key]).all(), (file, key)
                else:  # a gray level is one of 255
                    assert np.allclose(ours[key], theirs[key], rtol=1e-4, atol=1), (file, key)


@pytest.mark.slow
def test_a_run_with_every_callback_on_two_processes_has_one_folder(tmp_path):
    write_random(tmp_path / "mnist", size=28, channels=1, classes=list("0123456789"))
    options = {
        "data.init_args.data_dir": tmp_path,
        "data.init_args.batch_size": 16,
        "model.init_args.encoder.init_args.hidden": 32,
        "runs_dir": tmp_path / "runs",
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.log_every_n_steps": 1,
    }
    command = [sys.executable, "cli.py", "fit", "--config", "configs/vae_mlp_mnist.yaml"]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/vae_mlp_mnist/version_0"
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    provenance = json.loads((run / "provenance.json").read_text())
    assert (provenance["state"], provenance["processes"]) == ("finished", 2)
    drawn = {path.name for path in (run / "figures").iterdir()}
    assert {"reconstructions", "samples", "traversals", "tsne", "retrieval", "confusion", "views"} <= drawn
    assert (run / "report.html").is_file() and "2 processes" in done.stderr + done.stdout


# --- what that rests on, without a second process


def of_process(rank: int, world: int, **more) -> SimpleNamespace:
    """In place of a trainer."""
    return SimpleNamespace(global_rank=rank, world_size=world, **more)


@pytest.mark.parametrize(
    "method, number, words",
    [
        ("SimCLR", 0, "38 negatives an anchor (accumulation adds none)"),
        ("BarlowTwins", 0, "correlations over 20 images (accumulation adds none)"),
        ("CMC", 0, "19 negatives an anchor, from the batch (accumulation adds none)"),
        ("CMC", 1, "16 negatives an anchor, from the memory bank"),
    ],
)
def test_the_summary_line_says_that_accumulation_adds_no_negatives(method, number, words, tmp_path):
    write_data(tmp_path)
    case = find_case(method, number)
    module, data = build(case), data_of(case, tmp_path, batch_size=20)
    line = summary_line(train(module, data, tmp_path, accumulate_grad_batches=2, max_steps=1), module)
    assert "batch 40 (20 a process, 1 processes, 2 accumulated)" in line and line.endswith(f"; {words}")


def test_batch_norms_across_processes_are_said_and_refused_on_cpus(tmp_path):
    write_data(tmp_path)
    method = nn.SyncBatchNorm.convert_sync_batchnorm(build(CASES[SIMCLR]))
    assert batch_norm_scope(method) == "all processes"
    with pytest.raises(MisconfigurationException, match="batch norms across processes on GPUs alone"):
        train(method, data_of(CASES[SIMCLR], tmp_path, batch_size=20), tmp_path)


def test_a_split_smaller_than_the_number_of_processes_is_named(tmp_path):
    write_data(tmp_path)
    data = data_of(CASES[SIMCLR], tmp_path, batch_size=1)
    data.setup("fit")
    data.trainer = of_process(0, 14)
    with pytest.raises(MisconfigurationException, match="13 examples of val for 14 processes"):
        data.val_dataloader()
