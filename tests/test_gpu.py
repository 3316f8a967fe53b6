"""What only a GPU can show. `pytest -m gpu` runs it there; `--device cpu` tries these tests themselves."""

import copy
import csv
import json
import warnings

import pytest
import torch
from lightning.pytorch import Callback

from callbacks.evaluation.features import Features
from callbacks.evaluation.online_probe import OnlineProbe
from callbacks.evaluation.throughput import Throughput
from common.batch import Batch
from ssl_modules.losses.contrastive import nt_xent
from tests.conftest import command_line
from tests.methods import METHODS, build, train
from tests.test_compile import SaveAt
from tests.test_methods import tiny

SIMCLR = METHODS[0]
ROUNDING = {torch.bfloat16: 0.05, torch.float16: 0.01}  # of a loss in mixed precision, relative and absolute
PICTURES = {  # config: figures that its run must leave
    "simclr_digits": set(
        ["cam", "cka", "confusion", "curves", "filters", "hardest", "patch_map", "retrieval", "tsne", "views"]
    ),
    "vae_conv_galaxyzoo": {"curves", "traversals", "reconstructions", "samples"},
    "mae_cifar10": {"attention", "cam", "patch_map", "reconstructions"},
    "char_lstm_fast_tweets": {"curves", "confusion", "hardest"},
}

pytestmark = [
    pytest.mark.gpu,
    # torch hides this one itself, unless warnings are errors
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture
def device(request) -> torch.device:
    device = torch.device(request.config.getoption("--device"))
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here (--device cpu tries the test itself)")
    return device


@pytest.fixture
def on_device(device) -> dict:
    """Options of a Trainer."""
    return {"accelerator": "gpu" if device.type == "cuda" else "cpu", "devices": 1}


@pytest.fixture
def cuda(device) -> torch.device:
    if device.type != "cuda":
        pytest.skip("needs a GPU itself: a CPU neither waits nor counts its memory")
    return device


def move(batch: Batch, device: torch.device) -> Batch:
    views, labels, index, key = batch
    return Batch([view.to(device) for view in views], labels.to(device), index.to(device), key)


# --- precision


@pytest.mark.parametrize("dtype", ROUNDING, ids=["bf16", "fp16"])
def test_mixed_precision_losses_are_float32s_up_to_rounding(case, batch, dtype, device):
    if case.text and device.type == "cpu":
        pytest.skip("not every processor has an LSTM in half precision")
    batch, losses, method = move(batch, device), [], build(case).to(device)
    weights = copy.deepcopy(method.state_dict())
    for mixed in (False, True):
        method.load_state_dict(weights)
        torch.manual_seed(3)
        with torch.autocast(device.type, dtype, enabled=mixed):
            out = method.training_step(batch, 0)
        losses.append(out["loss"].detach().float())
    (out["loss"].float() * 2.0**-8).backward()  # as a gradient scaler would: sums over pixels are large
    torch.testing.assert_close(losses[1], losses[0], atol=ROUNDING[dtype], rtol=ROUNDING[dtype])
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_fit_in_mixed_precision_keeps_its_losses_finite(precision, device, on_device, data_dir, tmp_path):
    if precision == "16-mixed" and device.type == "cpu":
        pytest.skip("Lightning has 16-mixed on GPUs alone")
    method, steps = build(SIMCLR), Losses()
    train(method, tiny(data_dir, SIMCLR), tmp_path, callbacks=[steps], precision=precision, **on_device)
    assert len(steps.losses) == 3 and torch.stack(steps.losses).isfinite().all()


class Losses(Callback):
    """Keeps each step's loss and rows."""

    def __init__(self):
        self.losses, self.rows = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach().cpu())
        self.rows.append(batch.index.cpu())


# --- speed without other numbers


def test_resident_images_make_the_same_batches_bit_for_bit(cuda, on_device, data_dir, tmp_path):
    runs = {}
    for resident in (False, True):
        keep = Batches()
        options = {"callbacks": [keep], "limit_val_batches": 0, **on_device}
        train(build(SIMCLR), tiny(data_dir, SIMCLR, resident=resident), tmp_path, **options)
        runs[resident] = keep.batches
    assert len(runs[True]) == 3
    for (views, labels, index, key), (their_views, *theirs) in zip(runs[True], runs[False], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(views, their_views, strict=True))
        assert torch.equal(labels, theirs[0]) and torch.equal(index, theirs[1]) and key == theirs[2]


class Batches(Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(move(batch, torch.device("cpu")))


def test_compiled_augmentation_makes_the_same_views_up_to_rounding(device, data_dir):
    views = []
    for compiled in (False, True):
        data = tiny(data_dir, SIMCLR, compile=compiled)
        data.setup("fit")
        (batch, *_) = data.make_loader("train", training=True)
        views.append(data.prepare_batch(batch, device, augment=True)[0])
    for ours, theirs in zip(*views, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


def test_compiled_networks_have_the_same_losses_up_to_rounding(device, on_device, data_dir, tmp_path):
    losses = []
    for compiled in (False, True):
        keep = Losses()
        options = {"callbacks": [keep], "limit_val_batches": 0, **on_device}
        train(build(SIMCLR, compile=compiled), tiny(data_dir, SIMCLR), tmp_path, **options)
        losses.append(torch.stack(keep.losses))
    torch.testing.assert_close(losses[1], losses[0], atol=1e-2, rtol=1e-2)


def test_nt_xent_at_4096_needs_less_than_one_matrix_of_similarities(cuda):
    z1, z2 = (torch.randn(4096, 128, device=cuda, requires_grad=True) for _ in range(2))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    nt_xent(z1, z2, 0.2).backward()
    peak = torch.cuda.max_memory_allocated() - before
    print(f"NT-Xent, batch 4096, forward and backward: {peak / 2**20:.0f} MiB at most")
    assert peak < 4 * (2 * 4096) ** 2


class WaitsAreErrors(Callback):
    """From a step's start, where it comes first, to its end, where it comes last; the first steps may set up."""

    def __init__(self, mode: str):
        self.mode = mode

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.mode == "error" and batch_idx > 0:
            torch.cuda.set_sync_debug_mode(self.mode)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.mode == "default":
            torch.cuda.set_sync_debug_mode(self.mode)


def test_nothing_in_a_step_waits_for_the_device(case, cuda, on_device, data_dir, tmp_path):
    watching = [Features(), Throughput(), OnlineProbe()]
    guards = [WaitsAreErrors("error"), *watching, WaitsAreErrors("default")]
    options = {"callbacks": guards, "limit_val_batches": 0, "precision": "bf16-mixed", **on_device}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*[Ss]ynchroniz.*prototype"
            )  # torch's own, of this mode
            train(build(case), tiny(data_dir, case), tmp_path, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- seeing and resuming


@pytest.mark.usefixtures("untouched_process")
@pytest.mark.filterwarnings("ignore:the features have collapsed")  # after two steps, they may
@pytest.mark.filterwarnings("ignore:the linear probe stopped")  # where features hardly differ
@pytest.mark.parametrize("config", PICTURES)
def test_every_default_callback_reads_features_of_the_device(config, device, on_device, small_data, tmp_path):
    options = {
        "--config": f"configs/{config}.yaml",
        "--data.init_args.data_dir": small_data,
        "--data.init_args.batch_size": 16,
        "--trainer.max_epochs": 1,
        "--trainer.limit_train_batches": 2,
        "--runs_dir": tmp_path,
        "--without": "[WandbLogger, TQDMProgressBar]",
        "--trainer.callbacks+": "callbacks.figures.clustering.Clustering",
        "--trainer.callbacks.points": 60,
    }
    options |= {f"--trainer.{name}": value for name, value in on_device.items()}
    assert command_line("fit", *(str(part) for option in options.items() for part in option)) == 0
    run = tmp_path / config / "version_0"
    figures = {folder.name.split(".")[0] for folder in (run / "figures").iterdir()}
    assert PICTURES[config] <= figures, figures
    with open(run / "metrics.csv", newline="") as file:
        assert any(row.get("test/probe_top1") for row in csv.DictReader(file)) or config.startswith("vae")
    assert json.loads((run / "provenance.json").read_text())["state"] == "finished"


def test_a_resumed_run_sees_the_same_batches_and_losses(device, on_device, data_dir, tmp_path):
    runs, half = [], tmp_path / "half.ckpt"
    for start in (None, half):
        steps = Losses()
        options = {"callbacks": [Features(), OnlineProbe(), steps, SaveAt(4, half)], "max_epochs": 2}
        train(build(SIMCLR), tiny(data_dir, SIMCLR), tmp_path, start, **options, **on_device)
        runs.append(steps)
    whole, resumed = runs
    assert len(whole.losses) == 6 and len(resumed.losses) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.rows[4:], resumed.rows, strict=True))
    close = {"rtol": 1e-3, "atol": 1e-3} if device.type == "cuda" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(torch.stack(whole.losses[4:]), torch.stack(resumed.losses), **close)
