"""Where does it fail? The confusion matrix, and the hardest and the easiest examples."""

import numpy as np

from reports import data, images
from reports.run import Run
from reports.sections.section import SPLITS, Section

STRONGER = 3.4  # how much errors are exaggerated, so that rare ones show
MOST = 20  # classes that a page has room for


def section(run: Run) -> Section | None:
    matrix, extremes = confusion(run), [found for name in HARDEST if (found := hardest(run, name))]
    if not matrix and not extremes:
        return None
    says, shows = (matrix["finding"], {"confusion"}) if matrix else ("", set())
    shows |= {found["name"] for found in extremes}
    return Section(
        "errors",
        "Where it fails",
        "Where does it fail?",
        "errors.html",
        says,
        shows,
        {
            "matrix": matrix,
            "extremes": extremes,
        },
    )


def confusion(run: Run) -> dict | None:
    said, shown = data.facts(run, "confusion"), data.arrays(run, "confusion")
    if "counts" not in said or len(said["counts"]) > MOST:
        return None
    counts, names = np.array(said["counts"]), [str(name) for name in said["classes"]]
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    place = {index: k for k, index in enumerate(shown["index"].tolist())} if "images" in shown else {}
    rows, cells = [], []
    worst = np.where(np.eye(len(names), dtype=bool), -1, percent).argmax()
    for i, name in enumerate(names):
        row = []
        for j, other in enumerate(names):
            what = "rightly recognised" if i == j else f"taken for {other}"
            strength = percent[i, j] / 100 if i == j else min(STRONGER * percent[i, j] / 100, 1)
            row.append(
                {
                    "text": f"{percent[i, j]:.0f}" if percent[i, j] >= 1 else "",
                    "right": i == j,
                    "strength": round(100 * float(strength) if percent[i, j] >= 1 else 0, 1),
                    "says": f"{name} {what}: {counts[i, j]:,} of {counts[i].sum():,} ({percent[i, j]:.1f} %)",
                    "first": i * len(names) + j == worst,
                }
            )
            cells.append([place[k] for k in said["examples"][i][j] if k in place])
        rows.append({"name": name, "cells": row})
    right = 100 * np.trace(counts) / max(counts.sum(), 1)
    split = SPLITS.get(said.get("split"), "validation")
    return {
        "names": names,
        "rows": rows,
        "head": said.get("head", "head"),
        "split": split,
        "finding": f"{finding(percent, names)} {counts.sum():,} {split} examples, {right:.1f} % right.",
        "atlas": images.atlas(shown["images"]) if place else "",
        "sprites": {
            "cells": cells,
            "columns": images.COLUMNS,
            "tile": shown["images"].shape[1] if place else 0,
            "atlas": "atlas-confusion" if place else "",
        },
        "source": f"figures/confusion/epoch={data.epochs(run, 'confusion', 'json')[-1]}.json",
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


HARDEST = ("hardest", "hardest_training")


def hardest(run: Run, name: str) -> dict | None:
    """The examples with the largest and the lowest loss, with what they are taken for."""
    said, shown = data.facts(run, name), data.arrays(run, name)
    if "hardest" not in said or not (
        {"hardest", "easiest"} <= shown.keys() or "text" in (said["hardest"] or [{}])[0]
    ):
        return None
    names, groups = said.get("classes") or [], []
    for kind, title in (("hardest", "Hardest: the largest loss"), ("easiest", "Easiest: the lowest loss")):
        rows = []
        for k, entry in enumerate(said[kind]):
            label, predicted = entry.get("label"), entry.get("pred")
            known = label is not None and label >= 0
            rows.append(
                {
                    "index": entry["index"],
                    "loss": f"{entry['loss']:.2g}",
                    "picture": images.picture(shown[kind][k]) if kind in shown else None,
                    "text": entry.get("text"),
                    "name": str(names[label]) if known else "",
                    "says": str(names[predicted]) if predicted is not None else "",
                    "prob": entry.get("prob"),
                    "wrong": known and predicted is not None and predicted != label,
                }
            )
        groups.append({"title": title, "rows": rows})
    return {
        "name": name,
        "title": f"By {said['loss']}, {SPLITS.get(said.get('split'), 'validation')} examples",
        "groups": groups,
        "source": f"figures/{name}/epoch={data.epochs(run, name, 'json')[-1]}.json",
    }
