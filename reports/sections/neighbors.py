"""What does it find most similar? Examples beside the training examples nearest to them."""

import numpy as np

from common.splits import name_split
from reports.figure_data import load_arrays, load_facts, newest_source
from reports.images import encode_picture
from reports.run import Run
from reports.sections.section import Section


def make_section(run: Run) -> Section | None:
    queries = load_queries(run)
    if not queries:
        return None
    facts = load_facts(run, "retrieval")
    data = {
        "queries": queries,
        "split": name_split(facts.get("split")),
        "raw": facts.get("raw", "pixels"),
        "source": newest_source(run, "retrieval", "json"),
    }
    title, answer = "What does it find most similar?", describe_precision(facts)
    return Section("neighbors", "Neighbors", title, "neighbors.html", answer, {"retrieval"}, data)


def describe_precision(facts: dict) -> str:
    """How many neighbors by features are of the query's class, against those by the raw input."""
    if not (scores := facts.get("precision_at_10")):
        return ""
    features, raw = 100 * scores["neighbors"], 100 * scores[facts["raw"]]
    comparison = "about as many as"
    if abs(features - raw) > 2:
        comparison = "more than" if features > raw else "fewer than"
    return (
        f"Of the ten nearest training examples {features:.0f} % are of the query's class, {comparison} "
        f"by raw {facts['raw']} ({raw:.0f} %); mean of {facts['measured']:,} queries."
    )


def load_queries(run: Run) -> list[dict]:
    """A query with its neighbors by features and by the raw input, each with picture or text, class and similarity."""
    facts, arrays = load_facts(run, "retrieval"), load_arrays(run, "retrieval")
    if "query" not in arrays and "texts" not in facts:
        return []
    classes, queries = run.provenance.get("class_names") or [], []
    for k, entry in enumerate(facts.get("queries", [])):
        query, kinds = entry["query"], []
        for kind in ("neighbors", facts["raw"]):
            neighbors = []
            for i, (index, label, similarity) in enumerate(entry[kind]):
                example = make_example(facts, arrays, kind, k * len(entry[kind]) + i, index, label, classes)
                is_wrong = label is not None and label != query["label"]
                neighbors.append(example | {"similarity": similarity, "wrong": is_wrong})
            kinds.append({"name": "by features" if kind == "neighbors" else f"by {kind}", "near": neighbors})
        example = make_example(facts, arrays, "query", k, query["index"], query["label"], classes)
        queries.append({"query": example, "kinds": kinds})
    return queries


def make_example(
    facts: dict,
    arrays: dict[str, np.ndarray],
    kind: str,
    row: int,
    index: int,
    label: int | None,
    classes: list,
) -> dict:
    """Picture or text of a row of the figure's data, and its class."""
    name = ""
    if label is not None:
        name = str(classes[label]) if label < len(classes) else f"class {label}"
    picture = encode_picture(arrays[kind][row]) if kind in arrays else None
    text = facts["texts"][kind][row] if "texts" in facts else None
    return {"index": index, "name": name, "picture": picture, "text": text}
