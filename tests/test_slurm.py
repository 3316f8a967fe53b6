"""Jobs of Slurm: started by srun, saved when their time is over, and gone on with in the same run folder."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import cli
import launch.requeue
from launch.slurm import find_requeued_run
from tests.conftest import PICTURES, command_line

ROOT = Path(cli.__file__).parent
DIGITS = ROOT / "configs" / "simclr_digits.yaml"
SMALL = {
    "--model.encoder.widths": "[8,16]",
    "--model.encoder.blocks": "[1,1]",
    "--data.init_args.batch_size": 250,
    "--trainer.max_epochs": 1,
    "--trainer.precision": "32-true",
    "--trainer.accelerator": "cpu",
    "--trainer.log_every_n_steps": 1,
    "--test_after_fit": "false",
    "--without": f"[WandbLogger, Views, Protocol, {PICTURES}]",
    "--trainer.callbacks+": "{class_path: tests.faults.JobEnds, init_args: {step: 3}}",
}


@pytest.fixture
def job(monkeypatch, tmp_path, untouched_process) -> Path:
    """This process is the only task of job 77; what it asks of scontrol is in the file that this returns."""
    requests, scontrol = tmp_path / "asked", tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {requests}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    of_task = dict.fromkeys(("PROCID", "LOCALID", "NODEID", "STEP_ID"), "0")
    of_job = {"JOB_ID": "77", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1"}
    for name, value in (of_job | of_task).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(launch.requeue, "EVERY", 1)
    return requests


def words(options: dict, **more) -> list[str]:
    pairs = {f"--{name}": value for name, value in more.items()} | options
    return [str(word) for pair in pairs.items() for word in pair]


def fit(runs: Path) -> int | None:
    return command_line("fit", *words(SMALL, config=DIGITS, runs_dir=runs))


def outcome(run: Path) -> tuple[dict, list[dict]]:
    """Weights, and rows of metrics but for those that depend on the clock."""
    weights = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    with open(run / "metrics.csv", newline="") as file:
        rows = [
            {k: v for k, v in row.items() if v and "per_s" not in k and "wait" not in k}
            for row in csv.DictReader(file)
        ]
    return weights, rows


def state(run: Path) -> str:
    return json.loads((run / "provenance.json").read_text())["state"]


def test_a_requeued_job_goes_on_in_its_run_folder_bit_for_bit(job, tmp_path, monkeypatch):
    with monkeypatch.context() as again:
        again.setenv("SLURM_RESTART_COUNT", "1")
        assert fit(tmp_path / "whole") == 0
    assert not job.exists()
    assert fit(tmp_path / "parts") == 0
    run = tmp_path / "parts/simclr_digits/version_0"
    assert job.read_text() == "requeue 77\n" and state(run) == "interrupted"
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3  # in mid-epoch
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert fit(tmp_path / "parts") == 0
    assert [path.name for path in run.parent.iterdir()] == ["version_0"] and state(run) == "finished"
    (weights, rows), (whole, expected) = outcome(run), outcome(tmp_path / "whole/simclr_digits/version_0")
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    assert rows == expected


def test_another_job_or_command_and_a_first_start_begin_a_new_run(job, tmp_path, monkeypatch):
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_1").mkdir()  # ended before it said what it was
    facts = {"slurm_job": "77", "command": "python cli.py fit --config mine.yaml"}
    (tmp_path / "version_0" / "provenance.json").write_text(json.dumps(facts))
    monkeypatch.setattr(sys, "argv", ["cli.py", "fit", "--config", "mine.yaml"])
    assert find_requeued_run(tmp_path) is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert find_requeued_run(tmp_path) == (tmp_path / "version_0", None)
    monkeypatch.setattr(sys, "argv", ["cli.py", "fit", "--config", "other.yaml"])
    assert find_requeued_run(tmp_path) is None
    monkeypatch.setattr(sys, "argv", ["cli.py", "fit", "--config", "mine.yaml"])
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert find_requeued_run(tmp_path) is None


def test_a_job_that_saved_nothing_begins_again_in_its_folder(job, tmp_path, monkeypatch):
    assert fit(tmp_path) == 0
    run = tmp_path / "simclr_digits/version_0"
    (run / "checkpoints/last.ckpt").unlink()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert fit(tmp_path) == 0
    steps = [int(row["step"]) for row in outcome(run)[1] if "train/loss_step" in row]
    assert [path.name for path in run.parent.iterdir()] == ["version_0"] and steps == sorted(set(steps))


def test_without_srun_a_job_of_several_tasks_is_told_in_one_line(job, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    monkeypatch.delenv("SLURM_STEP_ID")
    assert fit(tmp_path) == 2
    assert (
        "error: this Slurm job has 2 tasks and python was started once: put srun before"
        in capfd.readouterr().err
    )
    assert not (tmp_path / "simclr_digits").exists()


# --- the scripts

SCRIPTS = sorted((ROOT / "slurm").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_starts_a_command_that_can_be_parsed(script, job, tmp_path, capfd):
    asked = tmp_path / "srun"
    srun = tmp_path / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\n')
    srun.chmod(0o755)
    of_job = {
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    given = ["me/lightbox/1"] if script.stem == "sweep" else ["--config", str(DIGITS)]
    subprocess.run(["bash", "-u", script, *given], env=os.environ | of_job, check=True)
    cpus, program, *words = asked.read_text().splitlines()
    assert cpus == "--cpus-per-task=8"
    if script.stem == "sweep":
        assert [program, *words] == ["wandb", "agent", "--count", "5", *given]
        return
    assert [program, *words[:2]] == ["python", "cli.py", "fit"]
    assert command_line(*words[1:], "--print_config") == 0
    config = yaml.safe_load(capfd.readouterr().out)
    several = {"one_node": (2, 4), "several_nodes": (2, 4)}.get(script.stem, (1, 1))
    assert (config["trainer"]["num_nodes"], int(config["trainer"]["devices"])) == several
    if script.stem == "seeds":
        assert config["seed_everything"] == 3
    if script.stem == "grid":
        assert config["model"]["init_args"]["temperature"] == 0.8


def test_scripts_save_before_the_time_limit_and_say_how_to_start():
    for script in SCRIPTS:
        text = script.read_text()
        assert f"#   sbatch slurm/{script.name} " in text
        requeues = "#SBATCH --signal=SIGUSR1@300" in text and "#SBATCH --requeue" in text
        assert requeues or "#SBATCH --no-requeue" in text


def test_the_page_on_clusters_names_what_there_is():
    page = (ROOT / "docs" / "clusters.md").read_text()
    links = re.findall(r"\]\(\.\./(.*?)\)", page)
    for name in links + re.findall(r"(?:slurm|configs|tests)/[\w/]+\.(?:sh|yaml|py)", page):
        assert (ROOT / name).exists(), name
    assert all(f"`{script.name}`" in page for script in SCRIPTS)


# --- the real one, of two pretended nodes on this machine

END = "{class_path: tests.faults.SlurmEndsJob, init_args: {step: 3}}"
ON_TWO = {"--config": "configs/simclr_digits.yaml"} | SMALL | {"--data.init_args.batch_size": 40}
del ON_TWO["--trainer.callbacks+"]


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Iterator[None]:
    """Slurm runs, and scripts find this python."""
    needed = ("slurmctld", "slurmd", "munged")
    missing = [name for name in needed if not shutil.which(name, path="/usr/sbin:/usr/bin")]
    if missing or os.geteuid():
        pytest.skip(f"needs root and Debian's slurm-wlm and munge; missing: {', '.join(missing) or 'root'}")
    folder = tmp_path / "slurm"
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # pretended names lead nowhere
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        subprocess.run([ROOT / "tests/slurm/up", folder], check=True)
        yield
    finally:
        subprocess.run([ROOT / "tests/slurm/down", folder])


def submit(log: Path, *job: str) -> str:
    """Of a job that is over, its last state; one that was queued again need not wait."""
    size = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
    command = ["sbatch", "--parsable", "--output", log, *size, *job]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    job, deadline = done.stdout.strip(), time.monotonic() + 400
    while time.monotonic() < deadline:
        details = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
        state = re.search(r"JobState=(\w+)", details)[1]
        if state == "PENDING" and "Restarts=1" in details:
            time.sleep(3)  # what it is allowed is revoked by the second: at once, nodes would refuse it
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
        elif state not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
            return state
        time.sleep(0.5)
    raise TimeoutError(log.read_text())


@pytest.mark.slow
def test_a_requeued_job_of_two_nodes_has_the_weights_of_torchrun(slurm, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = words(ON_TWO, runs_dir=tmp_path / "whole")
    command = [*torchrun, "cli.py", "fit", "--trainer.devices", "2", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log, given = tmp_path / "log", words(ON_TWO | {"--trainer.callbacks+": END}, runs_dir=tmp_path / "parts")
    state = submit(log, "slurm/several_nodes.sh", *given)
    output = log.read_text()
    assert state == "COMPLETED", output
    assert "goes back to the queue" in output and "2 processes" in output
    run = tmp_path / "parts/simclr_digits/version_0"
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    (weights, rows), (whole, expected) = outcome(run), outcome(tmp_path / "whole/simclr_digits/version_0")
    assert all(torch.equal(weights[name], whole[name]) for name in whole if not name.startswith("means."))
    for row, numbers in zip(rows, expected, strict=True):  # an epoch's mean is summed in another order
        numbers = {name: pytest.approx(float(number), rel=1e-5) for name, number in numbers.items()}
        assert {name: float(number) for name, number in row.items()} == numbers


@pytest.mark.slow
def test_a_job_without_srun_ends_at_once_and_says_why(slurm, tmp_path):
    log = tmp_path / "log"
    command = shlex.join(["python", "cli.py", "fit", *words(ON_TWO, runs_dir=tmp_path / "runs")])
    assert submit(log, "--wrap", command) == "FAILED"
    assert "put srun before python" in log.read_text() and not (tmp_path / "runs").exists()
