"""Run folders with the data behind figures, as the callbacks write them, for tests of the pages."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

NAMES = ["cat", "dog", "<b>ship</b>", "truck"]  # a class may be called anything
EPOCHS = (4, 9)


def write_figure(folder: Path, name: str, epoch: int, facts: dict | None = None, **arrays) -> None:
    path = folder / "figures" / name / f"epoch={epoch}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30 + epoch, 20), (200, 10 * epoch, 60)).save(path)
    if arrays:
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
    if facts:
        path.with_suffix(".json").write_text(json.dumps(facts))


def write_run(folder: Path, method: str = "SimCLR", seed: int = 0, gain: float = 0.3, **config) -> Path:
    """Ten epochs of `method` on four classes, with all figures that pages draw from data."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    model = {
        "class_path": f"ssl_modules.x.{method}",
        "init_args": {"encoder": {"class_path": "a.ResNet"}, **config},
    }
    data = {"class_path": "datamodules.x.Tiny", "init_args": {"batch_size": 16, "views": [{"flip": 0.5}]}}
    options = {"seed_everything": seed, "trainer": {"max_epochs": 10}, "model": model, "data": data}
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    provenance = {
        "verb": "fit", "state": "finished", "epochs": 10, "steps": 100, "method": method, "data": "Tiny", "seed": seed,
        "started": "2026-11-21T22:10:04", "wall_s": 600, "examples_per_s": 700.0,
        "num_classes": 4, "class_names": NAMES, "encoder_parameters": 1200000,
        "examples": {"train": 100, "val": 40, "test": 40}, "unit": "images",
        "warnings": [{"text": "<i>few</i> workers", "count": 3}], "skipped": {"Samples": f"{method} has no decoder"},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    rows = [
        "epoch,step,train/loss,val/knn20_top1,val/online_probe_top1,val/effective_rank,test/probe_top1,untrained/test/probe_top1"
    ]
    for epoch in range(10):
        score = 0.3 + gain * epoch / 9 + 0.01 * rng.random()
        rows.append(f"{epoch},{10 * epoch + 9},{6 - epoch / 4},{score:.4f},{score + 0.02:.4f},{10 + epoch},,")
    rows.append(f"10,100,,,,,{0.3 + gain:.4f},0.31")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    write_figures(folder, rng)
    return folder


def write_figures(folder: Path, rng: np.random.Generator) -> None:
    labels, index = np.arange(40) % 4, np.arange(40)
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for epoch in EPOCHS:
        xy = rng.normal(size=(40, 2)).astype(np.float32) + 3 * np.stack([labels % 2, labels // 2], 1)
        write_figure(
            folder,
            "tsne",
            epoch,
            xy=xy,
            index=index,
            labels=labels,
            pred=(labels + (index > 35)) % 4,
            split=np.array("val"),
        )
        write_figure(folder, "filters.encoder.stem.0", epoch)
    np.savez(folder / "figures" / "tsne" / "thumbnails.npz", images=images)
    near = [[3 * k, (k + (k == 7)) % 4, 0.9 - 0.01 * k] for k in range(10)]
    queries = [
        {"query": {"index": k, "split": "val", "label": k}, "neighbors": near, "pixels": near}
        for k in range(2)
    ]
    precision = {"neighbors": 0.6, "pixels": 0.3}
    write_figure(
        folder, "retrieval", 9,
        {"split": "val", "raw": "pixels", "measured": 40, "precision_at_10": precision, "queries": queries},
        query=images[:2], neighbors=images[:20], pixels=images[20:40],
    )  # fmt: skip
    write_figure(
        folder, "cam", 9, {"split": "val", "evidence": "class activation", "head": "online probe", "classes": NAMES},
        index=np.arange(4), labels=np.array([0, 1, 2, 3]), predicted=np.array([0, 2, 2, 3]), original=images[:4],
        maps=rng.normal(size=(4, 2, 3, 3)).astype(np.float32), classes=np.array([[0, 1], [2, 1], [2, 0], [3, 0]]),
        prob=np.full((4, 2), 0.5, np.float32), same=np.array(2),
    )  # fmt: skip
    counts = np.diag([9, 8, 7, 10]) + 1 - np.eye(4, dtype=int)
    cells = [[[int(4 * r + c)] for c in range(4)] for r in range(4)]
    confusion = {
        "split": "val",
        "head": "online probe",
        "classes": NAMES,
        "counts": counts.tolist(),
        "examples": cells,
    }
    write_figure(folder, "confusion", 9, confusion, index=np.arange(16), images=images[:16])
    extreme = [{"index": k, "loss": 2.5 - k, "label": 0, "pred": k % 2, "prob": 0.8} for k in range(3)]
    hardest = {"split": "val", "loss": "cross-entropy", "head": "online probe", "classes": NAMES}
    hardest |= {"hardest": extreme, "easiest": extreme}
    write_figure(folder, "hardest", 9, hardest, hardest=images[:3], easiest=images[3:6])
    write_figure(folder, "cka", 9, {"layers": ["stem", "features"]}, cka=np.array([[1, 0.4], [0.4, 1]]))
    features = {"stem": rng.normal(size=(40, 5)), "features": rng.normal(size=(40, 3))}
    np.savez(folder / "cka_features.npz", index=index, **features)
