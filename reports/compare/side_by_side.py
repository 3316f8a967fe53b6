"""What several runs see in the same examples: maps, neighbors, evidence, pictures, layers."""

import numpy as np

from common.similarity import linear_cka
from common.splits import name_split
from reports.compare.members import Member
from reports.figure_data import load_facts, load_npz
from reports.sections.class_activation import load_evidence_rows
from reports.sections.feature_map import MAPS, load_map
from reports.sections.neighbors import load_queries
from reports.sections.pictures import load_frames, name_figure

PICTURES = (
    "attention",
    "patch_map",
    "filters",
    "reconstructions",
    "samples",
    "class_samples",
    "clustering",
    "latent_map",
)


def match_maps(members: list[Member]) -> list[dict]:
    """Maps of one kind that at least two members have of the same examples."""
    for name in MAPS:
        maps = [(member, feature_map) for member in members if (feature_map := load_map(member.first, name))]
        matching = [(m, feature_map) for m, feature_map in maps if _same_examples(feature_map, maps[0][1])]
        if len(matching) > 1:
            for k, (member, feature_map) in enumerate(matching):
                feature_map["title"] = member.name
                feature_map["caption"] = feature_map["finding"] or feature_map["caption"]
                if k:  # the same pictures: once is enough
                    feature_map["atlas"] = ""
            return [feature_map for _, feature_map in matching]
    return []


def _same_examples(a: dict, b: dict) -> bool:
    return a["data"]["index"] == b["data"]["index"] and a["data"]["split"] == b["data"]["split"]


def match_neighbors(members: list[Member]) -> dict | None:
    """The queries that members share, each with every member's neighbors, and one's by the raw input."""
    queries_of = [(member, queries) for member in members if (queries := load_queries(member.first))]
    if not queries_of:
        return None
    (first, shared), *_ = queries_of
    asked = [query["query"]["index"] for query in shared]
    queries_of = [(m, qs) for m, qs in queries_of if [q["query"]["index"] for q in qs] == asked]
    if len(queries_of) < 2:
        return None
    rows = []
    for k, query in enumerate(shared):
        kinds = [queries[k]["kinds"][0] | {"name": member.name} for member, queries in queries_of]
        rows.append({"query": query["query"], "kinds": [*kinds, *query["kinds"][1:]]})
    split = name_split(load_facts(first.first, "retrieval").get("split"))
    return {"queries": rows, "split": split, "source": "figures/retrieval of each run"}


def match_evidence(members: list[Member]) -> dict | None:
    """Evidence in the examples that every run shows, right or wrong."""
    rows_of = [(member, rows) for member in members if (rows := load_evidence_rows(member.first)[1])]
    if not rows_of:
        return None
    splits = [load_facts(member.first, "cam").get("split") for member, _ in rows_of]
    shared = rows_of[0][1]
    indices = [row["index"] for row in shared]
    rows_of = [
        (member, rows)
        for (member, rows), split in zip(rows_of, splits, strict=True)
        if split == splits[0] and [row["index"] for row in rows] == indices
    ]
    if len(rows_of) < 2:
        return None
    groups = []
    for k, example in enumerate(shared):
        rows = [rows[k] | {"member": member} for member, rows in rows_of]
        groups.append({key: example[key] for key in ("name", "picture", "index")} | {"rows": rows})
    return {"groups": groups, "split": name_split(splits[0]), "source": "figures/cam of each run"}


def match_pictures(members: list[Member]) -> list[dict]:
    """Figures that at least two members have, newest epoch, beside each other; of filters the first layer of each."""
    rows = []
    for kind in PICTURES:
        cells = []
        for member in members:
            folders = sorted(name for name in member.first.figures if name.partition(".")[0] == kind)
            first_layer = min(folders, key=lambda name: ("stem" not in name, name), default=None)
            figure = load_frames(member.first, first_layer, kind)[0] if first_layer else None
            if figure:
                cells.append({"member": member, "frame": figure["frames"][-1]})
        if len(cells) > 1:
            rows.append({"title": name_figure(kind), "cells": cells})
    return rows


def compare_layers(members: list[Member]) -> list[dict]:
    """Linear CKA between the layers of the first member and those of each other, on the same examples."""
    features_of = []
    for member in members:
        features = load_npz(member.first.path / "cka_features.npz")
        index = features.pop("index", None)
        if features and index is not None and (not features_of or np.array_equal(index, features_of[0][2])):
            features_of.append((member, features, index))
    matrices = []
    for member, features, index in features_of[1:]:
        first, rows, _ = features_of[0]
        values = np.array([[linear_cka(x, y) for y in features.values()] for x in rows.values()])
        matrices.append(
            {
                "a": first,
                "b": member,
                "rows": list(rows),
                "columns": list(features),
                "values": values.tolist(),
                "count": len(index),
                "last": float(values[-1, -1]),
            }
        )
    return matrices
