"""What tests of reports share: run folders with a config, a provenance and metrics, and nothing trained."""

import copy
import json
import struct
import zlib

import pytest
import yaml

CONFIG = {
    "seed_everything": 0,
    "experiment": "simclr_digits",
    "trainer": {"max_epochs": 8, "precision": "bf16-mixed"},
    "model": {
        "class_path": "ssl_modules.simclr.SimCLR",
        "init_args": {
            "encoder": {"class_path": "ssl_modules.networks.resnet.ResNet", "init_args": {"depth": 18}},
            "temperature": 0.5,
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.06}},
        },
    },
    "data": {
        "class_path": "datamodules.digits.Digits",
        "init_args": {"batch_size": 64, "views": [{"scale": [0.2, 1.0], "flip": 0.5}] * 2},
    },
}
PROVENANCE = {
    "command": "python cli.py fit --config configs/simclr_digits.yaml",
    "state": "finished",
    "started": "2026-11-21T22:10:04+00:00",
    "wall_s": 1276,
    "examples_per_s": 713.2,
    "epochs": 8,
    "steps": 80,
    "commit": "3f9c2ab",
    "dirty": True,
    "hardware": {"cpu": "EPYC", "cores": 2, "gpus": [], "memory_gb": 16},
    "versions": {"torch": "2.14.1"},
    "encoder_parameters": 11168832,
    "num_classes": 10,
    "class_names": [f"class {i}" for i in range(10)],
    "examples": {"train": 45000, "val": 5000, "test": 10000},
    "method": "SimCLR",
    "data": "Digits",
    "warnings": [{"text": "few workers", "count": 3}],
}
TABLE = {
    "probe_top1": (0.694, 0.411, 0.372),
    "probe5_top1": (0.412, 0.262, 0.213),
    "knn20_top1": (0.666, 0.345, 0.352),
}


def final_row(trained=None, untrained=None, pixels=None, split="test"):
    """The last row of metrics.csv; a number replaces all three of that kind, False leaves them out."""
    row = {}
    for protocol, values in TABLE.items():
        for of, value, default in zip(
            ("", "untrained/", "pixels/"), (trained, untrained, pixels), values, strict=True
        ):
            if value is not False:
                row[f"{of}{split}/{protocol}"] = default if value is None else value
    return row


def epoch_rows(n, **metrics):
    """A row an epoch of ten steps, as Lightning counts them; metrics are functions of the epochs done."""
    return [{"epoch": e, "step": 10 * e + 9, **{k: f(e + 1) for k, f in metrics.items()}} for e in range(n)]


USUAL = epoch_rows(
    8,
    **{
        "train/loss": lambda e: 6 - e / 4,
        "val/online_probe_top1": lambda e: min(0.1 * e, 0.5),
        "val/effective_rank": lambda e: 10.0 + e,
    },
)
FINAL = [{"epoch": 7, "step": 79, **final_row(), **final_row(split="val")}]


def make_png(width=3, height=2):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (height * (width + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def make_run(tmp_path):
    def make_run(
        rows=(*USUAL, *FINAL), config=CONFIG, provenance=PROVENANCE, figures=None, name="simclr_digits"
    ):
        folder = tmp_path / name / "version_0"
        folder.mkdir(parents=True)
        if config:
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if provenance:
            (folder / "provenance.json").write_text(json.dumps(provenance))
        if rows:
            columns = ["epoch", "step", *sorted({key for row in rows for key in row} - {"epoch", "step"})]
            lines = [columns] + [[str(row.get(column, "")) for column in columns] for row in rows]
            (folder / "metrics.csv").write_text("".join(",".join(line) + "\n" for line in lines))
        for figure, at in (figures or {}).items():
            (folder / "figures" / figure).mkdir(parents=True)
            for epoch in at:
                (folder / "figures" / figure / f"epoch={epoch}.png").write_bytes(make_png())
        return folder

    return make_run


@pytest.fixture
def write_seed(make_run):
    """Writes a run of a seed; its probe is right on 60 % and as many points more as the seed says."""

    def write(seed: int, version: str = "", state: str = "finished", **config):
        rows = [*USUAL, {**FINAL[0], **final_row(), "test/probe_top1": 0.6 + seed / 100}]
        provenance = PROVENANCE | {"seed": seed, "state": state, "wall_s": 600.0}
        tree = copy.deepcopy(CONFIG) | {"seed_everything": seed} | config
        return make_run(rows, tree, provenance, name=f"run{version or seed}")

    return write
