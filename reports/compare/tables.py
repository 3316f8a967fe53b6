"""Numbers of several runs: the table, and accuracy by class."""

import numpy as np

from common.metrics import SCORES, read_name
from common.splits import SPLITS, name_split
from reports.compare.members import Member, average_seeds, list_protocols
from reports.figure_data import load_facts
from reports.thresholds import PAR

OTHERS = {  # what the table has beside the protocol's accuracies, with the digits after the point
    "val/precision_at_10": 1,
    "val/cluster_accuracy": 1,
    "val/reconstruction_mse": 4,
    "test/rotation_top1": 1,
    "val/effective_rank": 1,
}
BEST = {True: max, False: min, None: None}  # of a column, by whether larger is better
MOST_CLASSES = 40


def compare_numbers(members: list[Member]) -> dict:
    """Heads and rows; a cell: text, value to sort by, whether it is the best of its column."""
    heads, columns = [("Run", "")], []
    for key in list_protocols(members):
        for split in ("test", "val"):
            cells = [average_seeds(member.percent(key, split)) for member in members]
            if any(value is not None for _, value in cells):
                heads.append((shorten_protocol(*key), SPLITS[split]))
                columns.append((cells, max))
    for name, digits in OTHERS.items():
        metric = read_name(name)
        factor = 100 if metric.family.is_percentage else 1
        values = [[factor * v for run in m.group.runs if (v := run.last(name)) is not None] for m in members]
        if any(values):
            heads.append((metric.title, SPLITS[metric.split]))
            cells = [average_seeds(seeds, digits) for seeds in values]
            columns.append((cells, BEST[metric.family.larger_is_better]))
    for title, unit, read_cost in (
        ("Minutes", "of training", lambda run: run.provenance.get("wall_s", 0) / 60),
        ("Per second", "examples", lambda run: run.per_second),
    ):
        values = [[cost for run in member.group.runs if (cost := read_cost(run))] for member in members]
        heads.append((title, unit))
        columns.append(([average_seeds(seeds, 0) for seeds in values], None))
    heads.append(("Seeds", ""))
    columns.append(([(str(len(m.group.runs)), len(m.group.runs)) for m in members], None))
    columns = [_mark_best(cells, best) for cells, best in columns]
    rows = [
        {"member": m, "cells": list(cells)}
        for m, cells in zip(members, zip(*columns, strict=True), strict=True)
    ]
    return {"heads": heads, "rows": rows}


def _mark_best(cells: list[tuple[str, float | None]], best) -> list[dict]:
    """The cells of a column; `best`: max, min, or None where no value is better than others."""
    values = [value for _, value in cells if value is not None]
    top = best(values) if best and len(values) > 1 else None
    return [{"text": text, "value": value, "best": top is not None and value == top} for text, value in cells]


def shorten_protocol(kind: str, number: int | None) -> str:
    judge, _, score = kind.partition("_")
    name = {"probe": "Probe", "knn": "kNN", "head": "Classifier"}[judge]
    if judge == "probe" and number:
        name += f", {number} a class"
    return name + (f", {SCORES[score]}" if score else "")


def compare_classes(members: list[Member]) -> dict | None:
    """Share of each class that is recognized, the largest gap first; of members that tell the same classes apart."""
    facts_of = []
    for member in members:
        facts = load_facts(member.first, "confusion")
        if "counts" not in facts or len(facts["classes"]) > MOST_CLASSES:
            continue
        first = facts_of[0][1] if facts_of else facts
        if facts["classes"] == first["classes"] and facts.get("split") == first.get("split"):
            facts_of.append((member, facts))
    if len(facts_of) < 2:
        return None
    counts = [np.array(facts["counts"]) for _, facts in facts_of]
    recalls = np.array([100 * c.diagonal() / c.sum(1).clip(min=1) for c in counts])
    names = facts_of[0][1]["classes"]
    rows = [
        {
            "name": names[k],
            "dots": [{"member": m, "at": float(recalls[j, k])} for j, (m, _) in enumerate(facts_of)],
            "low": float(recalls[:, k].min()),
            "high": float(recalls[:, k].max()),
        }
        for k in np.argsort(-(recalls.max(0) - recalls.min(0)), kind="stable")
    ]
    return {
        "rows": rows,
        "heads": ", ".join(f"{member.name}: {facts['head']}" for member, facts in facts_of),
        "finding": _describe_gap(rows[0]),
        "split": name_split(facts_of[0][1].get("split")),
    }


def _describe_gap(row: dict) -> str:
    """The class on which members differ most, in words."""
    recalls = {dot["member"].name: dot["at"] for dot in row["dots"]}
    best, worst = max(recalls, key=recalls.get), min(recalls, key=recalls.get)
    if recalls[best] - recalls[worst] <= PAR:
        return "They recognize every class about equally often."
    return (
        f"They differ most on {row['name']}: {best} recognizes {recalls[best]:.0f} %, "
        f"{worst} {recalls[worst]:.0f} %."
    )
