"""The examples with the largest and with the lowest loss."""

import numpy as np

from common.splits import name_split
from reports import data, images
from reports.run import Run

NAMES = ("hardest", "hardest_training")
TITLES = {"hardest": "Hardest: the largest loss", "easiest": "Easiest: the lowest loss"}


def hardest(run: Run, name: str) -> dict | None:
    """Those of `figures/NAME`, with what they are taken for; None where there are neither images nor texts."""
    said, shown = data.facts(run, name), data.arrays(run, name)
    texts = "text" in (said.get("hardest") or [{}])[0]
    if "hardest" not in said or not (texts or TITLES.keys() <= shown.keys()):
        return None
    names = said.get("classes") or []
    groups = [
        {
            "title": title,
            "rows": [row(entry, names, shown.get(kind), k) for k, entry in enumerate(said[kind])],
        }
        for kind, title in TITLES.items()
    ]
    return {
        "name": name,
        "title": f"By {said['loss']}, {name_split(said.get('split'))} examples",
        "groups": groups,
        "source": f"figures/{name}/epoch={data.epochs(run, name, 'json')[-1]}.json",
    }


def row(entry: dict, names: list, pictures: np.ndarray | None, k: int) -> dict:
    label, predicted = entry.get("label"), entry.get("pred")
    known = label is not None and label >= 0
    return {
        "index": entry["index"],
        "loss": f"{entry['loss']:.2g}",
        "picture": None if pictures is None else images.picture(pictures[k]),
        "text": entry.get("text"),
        "name": str(names[label]) if known else "",
        "says": "" if predicted is None else str(names[predicted]),
        "prob": entry.get("prob"),
        "wrong": known and predicted is not None and predicted != label,
    }
