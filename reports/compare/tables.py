"""Numbers of several runs: scales, the table, and accuracy by class."""

from statistics import mean

import numpy as np

from common.metrics import FLOORS, read_name
from common.splits import SPLITS, name_split
from reports import data
from reports.compare.members import Member, guess, spread
from reports.judgement import PAR
from reports.measures import Mark, Measure, order

OTHERS = {  # what the table has beside the protocol's accuracies, with the digits after the point
    "val/precision_at_10": 1,
    "val/cluster_accuracy": 1,
    "val/reconstruction_mse": 4,
    "test/rotation_top1": 1,
    "val/effective_rank": 1,
}
BEST = {True: max, False: min, None: None}  # of a column, by whether larger is better


def keys(found: list[Member]) -> list[tuple[str, int | None]]:
    """The protocols that any member has, in the order of all tables."""
    known = {key for member in found for key in member.measures}
    return sorted(known, key=order)


def scales(found: list[Member]) -> list[dict]:
    """A row a protocol that two members have: chance, floor and all members on one line, by the split all have."""
    rows = []
    for key in keys(found):
        split = "test" if all(m.percent(key, "test") for m in found if m.measures.get(key)) else "val"
        values = {m.id: mean(m.percent(key, split)) for m in found if m.percent(key, split)}
        if len(values) < 2:
            continue
        marks = [] if (level := guess(found)) is None else [Mark("chance", level, f"chance {level:.0f}")]
        for of in FLOORS:  # of one network and one data set there is one floor; of several, none is drawn
            floors = {round(mean(m.percent(key, split, of)), 1) for m in found if m.percent(key, split, of)}
            if len(floors) == 1:
                marks.append(Mark(of, level := floors.pop(), f"{of} {level:.1f}"))
        marks = [{"kind": m.kind, "at": m.at, "text": m.text, "own": False} for m in marks]
        for member in found:
            if member.id in values:
                at = values[member.id]
                marks.append({"kind": member.id, "at": at, "text": f"{member.name} {at:.1f}", "own": True})
        place(marks)
        rows.append(
            {
                "title": Measure(*key).title,
                "protocol": f"{Measure(*key).protocol}; {SPLITS[split]} split",
                "marks": marks,
                "above": max((m["row"] for m in marks if m["own"]), default=0),
                "below": max((m["row"] for m in marks if not m["own"]), default=0),
                "says": ", ".join(m["text"] for m in sorted(marks, key=lambda m: -m["at"])),
            }
        )
    return rows


def place(marks: list[dict]) -> None:
    """Rows of their own for labels that would touch: members above the line, floors below.

    A letter is about 2 % of a phone's width.
    """
    for own in (True, False):
        ends: list[float] = []
        for mark in sorted((m for m in marks if m["own"] == own), key=lambda m: m["at"]):
            width = 2.1 * len(mark["text"])
            mark["side"] = "start" if mark["at"] < 6 else "end" if mark["at"] > 92 else "middle"
            left = mark["at"] - {"start": 0, "middle": width / 2, "end": width}[mark["side"]]
            mark["row"] = next((row for row, end in enumerate(ends) if left > end + 1), len(ends))
            ends[mark["row"] : mark["row"] + 1] = [left + width]


def table(found: list[Member]) -> dict:
    """Heads and rows; a cell: text, value to sort by, whether it is the best of its column."""
    heads, columns = [("Run", "")], []
    for key in keys(found):
        for split in ("test", "val"):
            cells = [spread(member.percent(key, split)) for member in found]
            if any(value is not None for _, value in cells):
                heads.append((short(*key), SPLITS[split]))
                columns.append((cells, max))
    for metric, digits in OTHERS.items():
        known = read_name(metric)
        factor = 100 if known.family.is_percentage else 1
        values = [[factor * v for run in m.group.runs if (v := run.last(metric)) is not None] for m in found]
        if any(values):
            heads.append((known.title, SPLITS[known.split]))
            best = BEST[known.family.larger_is_better]
            columns.append(([spread(value, digits) for value in values], best))
    for title, unit, of in (
        ("Minutes", "of training", lambda run: run.provenance.get("wall_s", 0) / 60),
        ("Per second", "examples", lambda run: run.per_second),
    ):
        values = [[value for run in m.group.runs if (value := of(run))] for m in found]
        heads.append((title, unit))
        columns.append(([spread(value, 0) for value in values], None))
    heads.append(("Seeds", ""))
    columns.append(([(str(len(m.group.runs)), len(m.group.runs)) for m in found], None))
    rows = []
    for k, member in enumerate(found):
        cells = []
        for column_cells, best in columns:
            text, value = column_cells[k]
            known = [v for _, v in column_cells if v is not None]
            top = best is not None and value is not None and len(known) > 1 and value == best(known)
            cells.append({"text": text, "value": value, "best": top})
        rows.append({"member": member, "cells": cells})
    return {"heads": heads, "rows": rows}


def short(kind: str, n: int | None) -> str:
    if kind == "probe":
        return f"Probe, {n} a class" if n else "Probe"
    return "kNN" if kind == "knn" else "Classifier"


def by_class(found: list[Member]) -> dict | None:
    """Share of each class that is recognized, the largest gap first; of members that tell the same classes apart."""
    seen = []
    for member in found:
        said = data.facts(member.first, "confusion")
        if (
            "counts" in said
            and (not seen or said["classes"] == seen[0][1]["classes"])
            and (not seen or said.get("split") == seen[0][1].get("split"))
            and len(said["classes"]) <= 40
        ):
            seen.append((member, said))
    if len(seen) < 2:
        return None
    recalls = []
    for _, said in seen:
        counts = np.array(said["counts"])
        recalls.append(100 * counts.diagonal() / counts.sum(1).clip(min=1))
    recalls = np.array(recalls)
    order = np.argsort(-(recalls.max(0) - recalls.min(0)), kind="stable")
    names = seen[0][1]["classes"]
    rows = [
        {
            "name": names[k],
            "dots": [{"member": m, "at": float(recalls[j, k])} for j, (m, _) in enumerate(seen)],
            "low": float(recalls[:, k].min()),
            "high": float(recalls[:, k].max()),
        }
        for k in order
    ]
    heads = ", ".join(f"{member.name}: {said['head']}" for member, said in seen)
    top = rows[0]
    by = {dot["member"].name: dot["at"] for dot in top["dots"]}
    best, worst = max(by, key=by.get), min(by, key=by.get)
    says = (
        f"They differ most on {top['name']}: {best} recognizes {by[best]:.0f} %, {worst} {by[worst]:.0f} %."
    )
    if by[best] - by[worst] <= PAR:
        says = "They recognize every class about equally often."
    return {
        "rows": rows,
        "heads": heads,
        "says": says,
        "split": name_split(seen[0][1].get("split")),
    }
