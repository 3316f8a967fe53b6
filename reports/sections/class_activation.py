"""Where does it look? Images lit where the evidence for a class is."""

import numpy as np
from PIL import Image

from common.splits import name_split
from reports.figure_data import load_arrays, load_facts, newest_source
from reports.images import encode_picture
from reports.run import Run
from reports.sections.section import Section

ARRAYS = {"original", "maps", "classes", "prob", "same"}
SIDE = 128  # pixels of a lit image, about


def make_section(run: Run) -> Section | None:
    groups = group_examples(run)
    if not groups:
        return None
    facts, maps = load_facts(run, "cam"), load_arrays(run, "cam")["maps"]
    kind, head = facts.get("evidence", "class activation"), facts.get("head", "head")
    kind += f" at {facts['layer']}," if "layer" in facts else ""
    answer = (
        f"{kind[0].upper()}{kind[1:]} through the {head}: the light falls where the evidence for a class is, "
    )
    answer += "each image on its own scale."
    data = {
        "groups": groups,
        "split": name_split(facts.get("split")),
        "cells": " × ".join(str(n) for n in maps.shape[2:]),  # noqa: RUF001
        "source": newest_source(run, "cam"),
    }
    return Section(
        "cam", "Where it looks", "Where does it look?", "class_activation.html", answer, {"cam"}, data
    )


def load_evidence_rows(run: Run) -> tuple[list[dict], list[dict]]:
    """Examples picked by the answer, and those that every run shows."""
    arrays, facts = load_arrays(run, "cam"), load_facts(run, "cam")
    if not arrays.keys() >= ARRAYS:
        return [], []
    rows = [make_evidence_row(arrays, facts.get("classes") or [], k) for k in range(len(arrays["index"]))]
    count = len(rows) - int(arrays["same"])
    return rows[:count], rows[count:]


def group_examples(run: Run) -> list[dict]:
    """Confident and right, confident and wrong, and the examples that every run shows."""
    picked, fixed = load_evidence_rows(run)
    groups = {
        "Confident and right": [row for row in picked if not row["wrong"]],
        "Confident and wrong: evidence for its answer, and for the truth": [
            row for row in picked if row["wrong"]
        ],
        "Not chosen by the answer: the same examples in every run": fixed,
    }
    return [{"title": title, "rows": rows} for title, rows in groups.items() if rows]


def make_evidence_row(arrays: dict[str, np.ndarray], classes: list[str], k: int) -> dict:
    """One image, and the evidence for the first classes asked: two where it is wrong, all where it is right."""
    label, predicted = int(arrays["labels"][k]), int(arrays["predicted"][k])
    image, maps = arrays["original"][k], arrays["maps"][k]
    lights = []
    for j in range(len(maps) if label == predicted else 2):
        lit = encode_picture(overlay_evidence(image, maps[j]), lossless=False)
        name, prob = classes[int(arrays["classes"][k, j])], float(arrays["prob"][k, j])
        lights.append({"picture": lit, "name": name, "prob": prob})
    return {
        "index": int(arrays["index"][k]),
        "picture": encode_picture(image),
        "name": classes[label],
        "predicted": classes[predicted],
        "wrong": label != predicted,
        "lights": lights,
    }


def overlay_evidence(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Image uint8 (H, W, C), evidence (h, w) -> uint8 (H', W', 3): color where the evidence is, dim gray elsewhere, a
    contour at half of its maximum."""
    times = -(-SIDE // max(image.shape[:2]))
    image = np.broadcast_to(image, (*image.shape[:2], 3)).repeat(times, 0).repeat(times, 1).astype(np.float32)
    size = image.shape[1::-1]
    light = np.asarray(Image.fromarray(evidence.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    light = (light / max(float(light.max()), 1e-12)).clip(min=0)
    if evidence.max() <= 0:  # bicubic overshoots
        light = np.zeros_like(light)
    lit = light[..., None] * image + (1 - light[..., None]) * 0.45 * image.mean(2, keepdims=True)
    if light.max() > 0.5:
        above = np.pad(light > 0.5, 1, constant_values=True)
        inner = above[:-2, 1:-1] & above[2:, 1:-1] & above[1:-1, :-2] & above[1:-1, 2:]
        lit[above[1:-1, 1:-1] & ~inner] = (255, 210, 77)
    return lit.round().astype(np.uint8)
