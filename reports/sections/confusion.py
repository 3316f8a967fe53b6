"""Which classes are taken for which? The confusion matrix, with examples of each cell."""

from typing import Any

import numpy as np

from common.splits import name_split
from reports import data, images
from reports.run import Run

STRONGER = 3.4  # how much errors are exaggerated, so that rare ones show
MOST = 20  # classes that a page has room for


def confusion(run: Run) -> dict | None:
    """Rows of cells in words and tints, and where their examples are in the atlas."""
    said, shown = data.facts(run, "confusion"), data.arrays(run, "confusion")
    if "counts" not in said or len(said["counts"]) > MOST:
        return None
    counts, names = np.array(said["counts"]), [str(name) for name in said["classes"]]
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    worst = np.where(np.eye(len(names), dtype=bool), -1, percent).argmax()
    rows = [
        {
            "name": name,
            "cells": [
                cell(names, counts, percent, i, j) | {"first": i * len(names) + j == worst}
                for j in range(len(names))
            ],
        }
        for i, name in enumerate(names)
    ]
    place = {index: k for k, index in enumerate(shown["index"].tolist())} if "images" in shown else {}
    sprites = {
        "cells": [[place[k] for k in examples if k in place] for row in said["examples"] for examples in row],
        "columns": images.COLUMNS,
        "tile": shown["images"].shape[1] if place else 0,
        "atlas": "atlas-confusion" if place else "",
    }
    right, split = 100 * np.trace(counts) / max(counts.sum(), 1), name_split(said.get("split"))
    return {
        "names": names,
        "rows": rows,
        "head": said.get("head", "head"),
        "split": split,
        "finding": f"{finding(percent, names)} {counts.sum():,} {split} examples, {right:.1f} % right.",
        "atlas": images.atlas(shown["images"]) if place else "",
        "sprites": sprites,
        "source": f"figures/confusion/epoch={data.epochs(run, 'confusion', 'json')[-1]}.json",
    }


def cell(names: list[str], counts: np.ndarray, percent: np.ndarray, i: int, j: int) -> dict[str, Any]:
    """True class i, predicted class j."""
    share, what = percent[i, j], "rightly recognized" if i == j else f"taken for {names[j]}"
    strength = share if i == j else min(STRONGER * share, 100)
    return {
        "text": f"{share:.0f}" if share >= 1 else "",
        "right": i == j,
        "strength": round(float(strength), 1) if share >= 1 else 0,
        "says": f"{names[i]} {what}: {counts[i, j]:,} of {counts[i].sum():,} ({share:.1f} %)",
    }


def finding(percent: np.ndarray, names: list[str]) -> str:
    """The most frequent mistake in words, by share of its class."""
    errors = np.where(np.eye(len(names), dtype=bool), 0, percent)
    if not errors.any():
        return "No mistakes."
    true, predicted = np.unravel_index(errors.argmax(), errors.shape)
    return (
        f"Most often it takes {names[true]} for {names[predicted]}: {errors[true, predicted]:.0f} % of them."
    )
