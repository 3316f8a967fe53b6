"""The examples with the largest and with the lowest loss."""

import numpy as np

from common.splits import name_split
from reports.figure_data import load_arrays, load_facts, newest_source
from reports.images import encode_picture
from reports.run import Run

FIGURES = ("hardest", "hardest_training")
TITLES = {"hardest": "Hardest: the largest loss", "easiest": "Easiest: the lowest loss"}


def load_extremes(run: Run, name: str) -> dict | None:
    """The examples of `figures/NAME`, with what they are taken for; None where there are neither images nor texts."""
    facts, arrays = load_facts(run, name), load_arrays(run, name)
    has_texts = "text" in (facts.get("hardest") or [{}])[0]
    if "hardest" not in facts or not (has_texts or TITLES.keys() <= arrays.keys()):
        return None
    classes = facts.get("classes") or []
    groups = [
        {
            "title": title,
            "rows": [
                make_extreme_row(entry, classes, arrays.get(kind), k) for k, entry in enumerate(facts[kind])
            ],
        }
        for kind, title in TITLES.items()
    ]
    return {
        "name": name,
        "title": f"By {facts['loss']}, {name_split(facts.get('split'))} examples",
        "groups": groups,
        "source": newest_source(run, name, "json"),
    }


def make_extreme_row(entry: dict, classes: list, pictures: np.ndarray | None, k: int) -> dict:
    """Example number k, with its class and what it is taken for."""
    label, predicted = entry.get("label"), entry.get("pred")
    has_label = label is not None and label >= 0
    return {
        "index": entry["index"],
        "loss": f"{entry['loss']:.2g}",
        "picture": None if pictures is None else encode_picture(pictures[k]),
        "text": entry.get("text"),
        "name": str(classes[label]) if has_label else "",
        "predicted": "" if predicted is None else str(classes[predicted]),
        "prob": entry.get("prob"),
        "wrong": has_label and predicted is not None and predicted != label,
    }
