"""What loggers keep of a run, read back from their files."""

import csv
import json
import socket
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from matplotlib import image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cli
from callbacks.loggers.csv import CSVLogger
from callbacks.loggers.wandb import WandbLogger, can_go_online, read_logged_metrics, read_records
from callbacks.plotting.save import save_table
from tests.conftest import PICTURES, command_line

pytestmark = pytest.mark.usefixtures("untouched_process")
ARTIFACT = "callbacks.checkpointing.encoder_artifact.EncoderArtifact"
DIGITS = Path(cli.__file__).parent / "configs" / "simclr_digits.yaml"
SHORT = {
    "--trainer.max_epochs": 2,
    "--trainer.limit_train_batches": 2,
    "--trainer.log_every_n_steps": 1,
    "--data.init_args.batch_size": 16,
    "--model.init_args.temperature": 0.37,
    "--trainer.accelerator": "cpu",
    "--test_after_fit": "false",
}


def fit_digits(folder: Path, without: str, *more: str, status: int = 0) -> Path:
    """A short run on the digits; its folder."""
    options = SHORT | {"--runs_dir": folder, "--without": without.replace("]", f", {PICTURES}]")}
    arguments = [part for option in options.items() for part in option]
    assert command_line("fit", "--config", DIGITS, *arguments, *more) == status
    return folder / "simclr_digits" / "version_0"


def read_metric(folder: Path, metric: str) -> dict[int, float]:
    """step -> value, as metrics.csv has it."""
    with open(folder / "metrics.csv", newline="") as file:
        return {int(row["step"]): float(row[metric]) for row in csv.DictReader(file) if row.get(metric)}


def read_wandb_run(folder: Path) -> list:
    """The records of the one offline run in a run folder."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return list(read_records(path))


def items_to_dict(items) -> dict:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """Nobody is logged in, and no mode is set."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    wandb.finish()
    wandb.teardown()


def test_wandb_offline_has_config_metrics_and_pictures(no_account, tmp_path):
    folder = fit_digits(tmp_path, "[Protocol,KNN,Collapse]", "--trainer.callbacks+", ARTIFACT)
    wandb.finish()
    wandb.teardown()  # its process writes last
    config, history, artifacts = {}, [], []
    for record in read_wandb_run(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            config |= items_to_dict(record.run.config.update)
            assert record.run.project == "lightbox" and record.run.display_name == "simclr_digits/version_0"
        elif kind == "config":
            config |= items_to_dict(record.config.update)
        elif kind == "history":
            history.append(items_to_dict(record.history.item))
        elif kind == "artifact":
            artifacts.append(record.artifact)
    assert config["model"]["init_args"]["temperature"] == 0.37 and config["seed_everything"] == 0
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (config["commit"], config["uncommitted_changes"]) == (provenance["commit"], provenance["dirty"])
    (encoder,) = (artifact for artifact in artifacts if artifact.type == "model")
    assert [entry.path for entry in encoder.manifest.contents] == ["encoder.safetensors"]
    weights = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    final = load_file(folder / "encoder.safetensors")
    assert len(final) > 9 and all(torch.equal(weights[f"encoder.{name}"], final[name]) for name in final)
    for metric in ("train/loss", "train/loss_step", "val/online_probe_top1"):
        logged = {row["trainer/global_step"]: row[metric] for row in history if metric in row}
        assert logged == pytest.approx(read_metric(folder, metric)) and len(logged) >= 2
    ((name,),) = (row["views.filenames"] for row in history if "views.filenames" in row)
    (run,) = folder.glob("wandb/offline-run-*")
    pixels = image.imread(run / "files" / name)
    picture = image.imread(folder / "figures" / "views" / "epoch=0.png")
    assert np.array_equal(pixels, picture) and pixels[..., :3].std() > 0.1


def test_without_a_key_wandb_is_offline(no_account, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # it would answer
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not can_go_online()


def test_a_key_without_a_server_goes_offline_and_says_so(no_account, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free now, and closed
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    messages = []
    monkeypatch.setattr("callbacks.loggers.wandb.rank_zero_info", messages.append)
    assert not can_go_online() and messages == ["W&B: 127.0.0.1 does not answer, logging offline"]


@pytest.mark.slow
def test_a_server_that_never_answers_costs_less_than_ten_seconds(no_account, monkeypatch, tmp_path):
    def started(folder: Path) -> float:
        folder.mkdir()
        began = perf_counter()
        logger = WandbLogger(save_dir=str(folder))
        logger.log_metrics({"loss": 0.5}, step=3)
        seconds = perf_counter() - began
        wandb.finish()
        wandb.teardown()  # its process writes last
        (run,) = folder.glob("wandb/offline-run-*")
        assert (3, "loss") in read_logged_metrics(folder, run.name.rsplit("-", 1)[1])
        return seconds

    offline = started(tmp_path / "offline")
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert started(tmp_path / "unanswered") - offline < 10


@pytest.mark.slow
def test_a_resumed_run_joins_and_has_every_row_once_after_a_kill(no_account, tmp_path):
    fault = "{class_path: tests.faults.Terminate, init_args: {step: 3}}"
    save = "{class_path: callbacks.checkpointing.checkpoints.Checkpoints, init_args: {every_n_steps: 1}}"
    callbacks = "[Protocol,KNN,Collapse,Views]"
    fit_digits(tmp_path, callbacks, "--trainer.callbacks+", save, "--trainer.callbacks+", fault, status=143)
    wandb.finish()
    wandb.teardown()
    folder = tmp_path / "simclr_digits/version_0"
    (first,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows = [record for record in read_records(first) if record.WhichOneof("record_type") == "history"]
    content, lost = first.read_bytes(), rows[-2].history.SerializeToString()
    first.write_bytes(content[: content.index(lost) + 5])  # cut off in the middle of the last row but one
    fit_digits(tmp_path, callbacks, "--trainer.callbacks+", save, "--ckpt_path", "last")
    wandb.finish()
    wandb.teardown()
    fragments = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(fragments) == 2 and len({path.name for path in fragments}) == 1  # the id
    logged = []
    for row in (items_to_dict(record.history.item) for path in fragments for record in read_records(path)):
        names = [name for name in row if "/" in name and name != "trainer/global_step"]
        logged += [(row["trainer/global_step"], name, row[name]) for name in names]
    csv_rows = CSVLogger(str(folder)).read_rows()[1]
    expected = [
        (int(row["step"]), name, float(row[name]))
        for row in csv_rows
        for name in row
        if "/" in name and row[name]
    ]
    assert len(logged) > 9 and sorted(logged) == sorted(expected)


def test_tensorboard_is_one_line_of_config(tmp_path):
    line = "{class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: .}}"
    folder = fit_digits(tmp_path, "[Protocol,KNN,Collapse,WandbLogger]", "--trainer.logger+", line)
    (events,) = folder.rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events)).Reload()
    for metric in ("train/loss", "val/online_probe_top1"):
        logged = {event.step: event.value for event in accumulator.Scalars(metric)}
        assert logged == pytest.approx(read_metric(folder, metric))
    assert [event.step for event in accumulator.Images("views")] == [0]


def test_lars_of_timm_is_an_optimizer_like_torchs(tmp_path):
    lars = "{class_path: timm.optim.Lars, init_args: {lr: 0.8, weight_decay: 1.0e-6}}"
    folder = fit_digits(tmp_path, "[Protocol,KNN,Collapse,WandbLogger]", "--model.init_args.optimizer", lars)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    groups = state["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [1e-6, 0] and "trust_coeff" in groups[0]


@pytest.mark.slow
def test_a_model_of_timm_is_an_encoder_like_ours(tmp_path):
    encoder = (
        "{class_path: ssl_modules.networks.timm_model.Timm, init_args: {name: resnet10t, in_channels: 1}}"
    )
    # In bfloat16 on 8 x 8 images its last maps are 1 x 1, where some processors' kernels diverge.
    single = "--trainer.precision", "32-true"
    folder = fit_digits(tmp_path, "[Protocol,WandbLogger]", "--model.init_args.encoder", encoder, *single)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(key.startswith("encoder.model.") for key in state)
    assert read_metric(folder, "val/knn20_top1") and read_metric(folder, "val/online_probe_top1")


def test_examples_go_to_wandb_as_a_table():
    class Logger(WandbLogger):
        def __init__(self):
            self.tables = {}

        def log_table(self, key, columns, data):
            self.tables[key] = columns, data

    logger, image_of = Logger(), np.zeros((4, 4, 3), np.uint8)
    examples = [
        {"kind": "hardest", "example": image_of, "loss": 2.5},
        {"kind": "easiest", "example": "a tweet"},
    ]
    save_table(SimpleNamespace(loggers=[logger]), "hardest", examples)
    columns, (first, second) = logger.tables["hardest_table"]
    assert columns == ["kind", "example", "loss"] and isinstance(first[1], wandb.Image) and first[2] == 2.5
    assert second == ["easiest", "a tweet", None]
