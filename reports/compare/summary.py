"""What a comparison comes to, in sentences computed from its numbers."""

from statistics import mean

from common.splits import SPLITS
from reports.accuracies import Accuracy, Protocol
from reports.compare.members import Member, list_protocols
from reports.description import name_dataset, name_encoder
from reports.formatting import format_count, join_names
from reports.thresholds import PAR

# the levels that a comparison names where its runs share them
STARTS = {
    "before": "The encoder that they started from",
    "untrained": "The untrained encoder",
    "majority": "Always naming the largest class",
}


def title_comparison(members: list[Member]) -> str:
    data = list(dict.fromkeys(name_dataset(member.first) for member in members))
    return f"{join_names([member.name for member in members])} on {join_names(data)}"


def describe_networks(members: list[Member]) -> str:
    """Whether they share a network, and how they are compared."""
    networks = {
        (name_encoder(member.first), member.first.provenance.get("encoder_parameters")) for member in members
    }
    sizes = sorted(size for _, size in networks if size)
    if len(networks) == 1:
        name, size = networks.pop()
        text = f"The same {name or 'encoder'}" + (f" of {format_count(size)} parameters" if size else "")
    elif sizes:
        text = f"Networks of {join_names([format_count(size) for size in sizes])} parameters"
    else:
        text = "Different networks"
    return f"{text}, judged by the same protocol where numbers stand in one column."


def summarize_comparison(members: list[Member], cka: list[dict]) -> list[str]:
    return [sentence for sentence in (describe_leader(members), describe_similarity(cka)) if sentence]


def describe_leader(members: list[Member]) -> str:
    """Who leads by the first protocol that all have, on test where all have it."""
    for key in sorted(list_protocols(members), key=_rank_for_leader):
        for split in ("test", "val"):
            values = {m.name: mean(percents) for m in members if (percents := m.percent(key, split))}
            if len(values) == len(members):
                return _rank_members(members, key, split, values)
    return "No protocol was measured in all of these runs, so they cannot be ranked."


def _rank_for_leader(key: Protocol) -> tuple[bool, bool]:
    """Balanced accuracies first, which are there where classes are uneven; a run's own classifier last."""
    return not key[0].endswith("_balanced"), key[0].startswith("head")


def _rank_members(members: list[Member], key: Protocol, split: str, values: dict[str, float]) -> str:
    order = sorted(values, key=values.get, reverse=True)
    best, second, *others = order
    gap = values[best] - values[second]
    measure = Accuracy(*key).title.lower().replace("knn", "kNN")
    basis = f"by the {measure} on the {SPLITS[split]} split"
    if gap <= PAR:
        text = f"*{best}* ({values[best]:.1f} %) and *{second}* ({values[second]:.1f} %) are on a par {basis}"
    else:
        text = f"*{best}* leads {basis}: *{values[best]:.1f} %*, {gap:.1f} points above {second}"
    if others:
        text += f"; {join_names([f'{name} {values[name]:.1f} %' for name in others])} "
        text += "follows" if len(others) == 1 else "follow"
    for start, subject in STARTS.items():
        floors = [mean(percents) for m in members if (percents := m.percent(key, split, start))]
        if floors and max(floors) - min(floors) < PAR:
            floor = mean(floors)
            text += f". {subject} reaches {floor:.1f} %"
            if worse := [name for name in order if values[name] < floor - PAR]:
                text += f", more than {join_names(worse)}"
    return text + "."


def describe_similarity(cka: list[dict]) -> str:
    """Whose features resemble the first member's, the most similar first."""
    if not cka:
        return ""
    order = sorted(cka, key=lambda matrix: -matrix["last"])
    parts = [f"{matrix['b'].name}'s (CKA {matrix['last']:.2f})" for matrix in order]
    return f"{cka[0]['a'].name}'s features resemble {', then '.join(parts)}."
