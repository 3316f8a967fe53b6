"""What several runs see in the same examples: maps, neighbors, evidence, pictures, layers."""

import numpy as np

from common.splits import name_split
from reports import data
from reports.compare.members import Member
from reports.sections import evidence, map, neighbors, pictures
from reports.similarity import linear_cka

PICTURES = ("filters", "reconstructions", "samples", "class_samples", "clustering", "latent_map")


def same(a: dict, b: dict) -> bool:
    return a["data"]["index"] == b["data"]["index"] and a["data"]["split"] == b["data"]["split"]


def maps(found: list[Member]) -> list[dict]:
    """Maps of one kind that at least two members have of the same examples."""
    for kind in map.KINDS:
        drawn = [(member, drawing) for member in found if (drawing := map.one(member.first, kind))]
        alike = [(member, drawing) for member, drawing in drawn if same(drawing, drawn[0][1])]
        if len(alike) > 1:
            for k, (member, drawing) in enumerate(alike):
                drawing["title"] = member.name
                drawing["sub"] = drawing["says"] or drawing["sub"]
                if k:  # the same pictures: once is enough
                    drawing["atlas"] = ""
            return [drawing for _, drawing in alike]
    return []


def nearest(found: list[Member]) -> dict | None:
    """The queries that members share, each with every member's neighbors, and one's by the raw input."""
    seen = [(member, rows) for member in found if (rows := neighbors.rows(member.first))]
    seen = [
        (m, rows)
        for m, rows in seen
        if [r["query"]["index"] for r in rows] == [r["query"]["index"] for r in seen[0][1]]
    ]
    if len(seen) < 2:
        return None
    queries = []
    for k, first in enumerate(seen[0][1]):
        kinds = [rows[k]["kinds"][0] | {"name": member.name} for member, rows in seen]
        queries.append({"query": first["query"], "kinds": [*kinds, *first["kinds"][1:]]})
    split = name_split(data.facts(seen[0][0].first, "retrieval").get("split"))
    return {"queries": queries, "split": split, "source": "figures/retrieval of each run"}


def looks(found: list[Member]) -> dict | None:
    """Evidence in the examples that every run shows, whatever it says of them."""
    seen = [(member, rows) for member in found if (rows := evidence.examples(member.first)[1])]
    splits = [data.facts(member.first, "cam").get("split") for member, _ in seen]
    seen = [pair for pair, split in zip(seen, splits, strict=True) if split == splits[0]]
    seen = [(m, rows) for m, rows in seen if [r["index"] for r in rows] == [r["index"] for r in seen[0][1]]]
    if len(seen) < 2:
        return None
    groups = []
    for k, first in enumerate(seen[0][1]):
        rows = [rows[k] | {"member": member} for member, rows in seen]
        groups.append(
            {"name": first["name"], "picture": first["picture"], "index": first["index"], "rows": rows}
        )
    return {
        "groups": groups,
        "split": name_split(splits[0]),
        "source": "figures/cam of each run",
    }


def drawings(found: list[Member]) -> list[dict]:
    """Figures that at least two members have, newest epoch, beside each other; of filters the first layer of each."""
    rows = []
    for kind in PICTURES:
        cells = []
        for member in found:
            folders = sorted(name for name in member.first.figures if name.partition(".")[0] == kind)
            shallow = min(folders, key=lambda name: ("stem" not in name, name), default=None)
            drawn = pictures.frames(member.first, shallow, kind)[0] if shallow else None
            if drawn:
                cells.append({"member": member, "frame": drawn["frames"][-1]})
        if len(cells) > 1:
            rows.append({"title": pictures.title_of(kind), "cells": cells})
    return rows


def layers(found: list[Member]) -> list[dict]:
    """Linear CKA between the layers of the first member and those of each other, on the same examples."""
    seen = []
    for member in found:
        features = data.load(member.first.path / "cka_features.npz")
        index = features.pop("index", None)
        if features and index is not None and (not seen or np.array_equal(index, seen[0][2])):
            seen.append((member, features, index))
    matrices = []
    for member, features, index in seen[1:]:
        first, own, _ = seen[0]
        values = np.array([[linear_cka(x, y) for y in features.values()] for x in own.values()])
        matrices.append(
            {
                "a": first,
                "b": member,
                "rows": list(own),
                "columns": list(features),
                "values": values.tolist(),
                "count": len(index),
                "last": float(values[-1, -1]),
            }
        )
    return matrices
