"""What does it find most similar? Examples beside the training examples nearest to them."""

import numpy as np

from common.splits import name_split
from reports import data, images
from reports.run import Run
from reports.sections.section import Section


def section(run: Run) -> Section | None:
    queries = rows(run)
    if not queries:
        return None
    said, found = data.facts(run, "retrieval"), ""
    if scores := said.get("precision_at_10"):
        own, raw = 100 * scores["neighbors"], 100 * scores[said["raw"]]
        than = "more than" if own > raw + 2 else "fewer than" if own < raw - 2 else "about as many as"
        found = f"Of the ten nearest training examples {own:.0f} % are of the query's class, "
        found += f"{than} by raw {said['raw']} ({raw:.0f} %); mean of {said['measured']:,} queries."
    return Section(
        "neighbors",
        "Neighbors",
        "What does it find most similar?",
        "neighbors.html",
        found,
        {"retrieval"},
        {
            "queries": queries,
            "split": name_split(said.get("split")),
            "raw": said.get("raw", "pixels"),
            "source": f"figures/retrieval/epoch={data.epochs(run, 'retrieval', 'json')[-1]}.json",
        },
    )


def rows(run: Run) -> list[dict]:
    """A query with its neighbors by features and by the raw input, each with picture or text, class and similarity."""
    said, shown = data.facts(run, "retrieval"), data.arrays(run, "retrieval")
    names, found = run.provenance.get("class_names") or [], []
    for k, entry in enumerate(said.get("queries", [])):
        query = entry["query"]
        row = {"query": example(said, shown, "query", k, query["index"], query["label"], names), "kinds": []}
        for kind in ("neighbors", said["raw"]):
            near = entry[kind]
            row["kinds"].append(
                {
                    "name": "by features" if kind == "neighbors" else f"by {kind}",
                    "near": [
                        example(said, shown, kind, k * len(near) + i, index, label, names)
                        | {"similarity": similarity, "wrong": label is not None and label != query["label"]}
                        for i, (index, label, similarity) in enumerate(near)
                    ],
                }
            )
        found.append(row)
    return found if any(k in shown for k in ("query",)) or "texts" in said else []


def example(
    said: dict, shown: dict[str, np.ndarray], kind: str, at: int, index: int, label: int | None, names: list
) -> dict:
    name = "" if label is None else str(names[label]) if label < len(names) else f"class {label}"
    picture = images.picture(shown[kind][at]) if kind in shown else None
    text = said["texts"][kind][at] if "texts" in said else None
    return {"index": index, "name": name, "picture": picture, "text": text}
