"""Where does it look? Images with a spotlight on what speaks for a class."""

import numpy as np
from PIL import Image

from common.splits import name_split
from reports import data, images
from reports.run import Run
from reports.sections.section import Section

ARRAYS = {"original", "maps", "classes", "prob", "same"}
SIDE = 128  # pixels of a spotlight, about


def section(run: Run) -> Section | None:
    found = groups(run)
    if not found:
        return None
    said = data.facts(run, "cam")
    kind, head = said.get("evidence", "class activation"), said.get("head", "head")
    says = (
        f"{kind[0].upper()}{kind[1:]} through the {head}: the light falls where the evidence for a class is, "
    )
    says += "each image on its own scale."
    return Section(
        "cam",
        "Where it looks",
        "Where does it look?",
        "evidence.html",
        says,
        {"cam"},
        {
            "groups": found,
            "split": name_split(said.get("split")),
            "cells": " × ".join(str(n) for n in data.arrays(run, "cam")["maps"].shape[2:]),  # noqa: RUF001
            "source": f"figures/cam/epoch={data.epochs(run, 'cam')[-1]}.npz",
        },
    )


def examples(run: Run) -> tuple[list[dict], list[dict]]:
    """Those chosen by the answer, and those that every run shows."""
    cam, said = data.arrays(run, "cam"), data.facts(run, "cam")
    if not cam.keys() >= ARRAYS:
        return [], []
    rows = [row(cam, said.get("classes") or [], k) for k in range(len(cam["index"]))]
    chosen = len(rows) - int(cam["same"])
    return rows[:chosen], rows[chosen:]


def groups(run: Run) -> list[dict]:
    """Confident and right, confident and wrong, and the examples that every run shows."""
    chosen, fixed = examples(run)
    found = {
        "Confident and right": [row for row in chosen if not row["wrong"]],
        "Confident and wrong: evidence for its answer, and for the truth": [
            row for row in chosen if row["wrong"]
        ],
        "Not chosen by the answer: the same examples in every run": fixed,
    }
    return [{"title": title, "rows": rows} for title, rows in found.items() if rows]


def row(cam: dict[str, np.ndarray], names: list[str], k: int) -> dict:
    """One image, and the evidence for the first classes asked: two where it is wrong, all where it is right."""
    label, predicted = int(cam["labels"][k]), int(cam["predicted"][k])
    wrong, image = label != predicted, cam["original"][k]
    count = 2 if wrong else cam["maps"].shape[1]
    lights = []
    for j in range(count):
        of, prob = int(cam["classes"][k, j]), float(cam["prob"][k, j])
        light = images.picture(spotlight(image, cam["maps"][k, j]), lossless=False)
        lights.append({"picture": light, "name": names[of], "prob": prob})
    return {
        "index": int(cam["index"][k]),
        "picture": images.picture(image),
        "name": names[label],
        "says": names[predicted],
        "wrong": wrong,
        "lights": lights,
    }


def spotlight(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
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
        over = np.pad(light > 0.5, 1, constant_values=True)
        inner = over[:-2, 1:-1] & over[2:, 1:-1] & over[1:-1, :-2] & over[1:-1, 2:]
        edge = over[1:-1, 1:-1] & ~inner
        lit[edge] = (255, 210, 77)
    return lit.round().astype(np.uint8)
