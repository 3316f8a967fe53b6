"""Which classes are taken for which? The confusion matrix, with examples of each cell."""

from typing import Any

import numpy as np

from common.splits import name_split
from reports.figure_data import load_arrays, load_facts, newest_source
from reports.images import COLUMNS, encode_atlas
from reports.run import Run

STRONGER = 3.4  # how much errors are exaggerated, so that rare ones show
MOST = 20  # classes that a page has room for


def load_confusion(run: Run) -> dict | None:
    """Rows of cells in words and tints, and where their examples are in the atlas."""
    facts, arrays = load_facts(run, "confusion"), load_arrays(run, "confusion")
    if "counts" not in facts or len(facts["counts"]) > MOST:
        return None
    counts, names = np.array(facts["counts"]), [str(name) for name in facts["classes"]]
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    worst = np.where(np.eye(len(names), dtype=bool), -1, percent).argmax()
    rows = [
        {
            "name": name,
            "cells": [
                make_cell(names, counts, percent, i, j) | {"first": i * len(names) + j == worst}
                for j in range(len(names))
            ],
        }
        for i, name in enumerate(names)
    ]
    tiles = {index: k for k, index in enumerate(arrays["index"].tolist())} if "images" in arrays else {}
    examples = [cell for row in facts["examples"] for cell in row]
    sprites = {
        "cells": [[tiles[index] for index in cell if index in tiles] for cell in examples],
        "columns": COLUMNS,
        "tile": arrays["images"].shape[1] if tiles else 0,
        "atlas": "atlas-confusion" if tiles else "",
    }
    accuracy, split = 100 * np.trace(counts) / max(counts.sum(), 1), name_split(facts.get("split"))
    return {
        "names": names,
        "rows": rows,
        "head": facts.get("head", "head"),
        "split": split,
        "finding": f"{describe_errors(percent, names)} {counts.sum():,} {split} examples, {accuracy:.1f} % right.",
        "atlas": encode_atlas(arrays["images"]) if tiles else "",
        "sprites": sprites,
        "source": newest_source(run, "confusion", "json"),
    }


def make_cell(names: list[str], counts: np.ndarray, percent: np.ndarray, i: int, j: int) -> dict[str, Any]:
    """True class i, predicted class j."""
    share, outcome = percent[i, j], "rightly recognized" if i == j else f"taken for {names[j]}"
    strength = share if i == j else min(STRONGER * share, 100)
    return {
        "text": f"{share:.0f}" if share >= 1 else "",
        "right": i == j,
        "strength": round(float(strength), 1) if share >= 1 else 0,
        "label": f"{names[i]} {outcome}: {counts[i, j]:,} of {counts[i].sum():,} ({share:.1f} %)",
    }


def describe_errors(percent: np.ndarray, names: list[str]) -> str:
    """The most frequent mistake in words, by share of its class."""
    errors = np.where(np.eye(len(names), dtype=bool), 0, percent)
    if not errors.any():
        return "No mistakes."
    true, predicted = np.unravel_index(errors.argmax(), errors.shape)
    return (
        f"Most often it takes {names[true]} for {names[predicted]}: {errors[true, predicted]:.0f} % of them."
    )
