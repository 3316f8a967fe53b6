"""What a comparison comes to, in sentences computed from its numbers."""

from statistics import mean

from common.splits import SPLITS
from reports.compare.members import Member
from reports.compare.tables import keys
from reports.facts import count
from reports.judgement import PAR
from reports.measures import Measure
from reports.run import dig
from reports.words import dataset, name


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def title(found: list[Member]) -> str:
    data = list(dict.fromkeys(dataset(member.first) for member in found))
    return f"{listed([member.name for member in found])} on {listed(data)}"


def subject(found: list[Member]) -> str:
    """Whether they share a network, and how they are judged."""
    networks = {
        (
            name(dig(m.first.config, "model", "init_args", "encoder", "class_path")),
            m.first.provenance.get("encoder_parameters"),
        )
        for m in found
    }
    if len(networks) == 1:
        kind, size = networks.pop()
        network = f"The same {kind or 'encoder'}" + (f" of {count(size)} parameters" if size else "")
    else:
        sizes = sorted(size for _, size in networks if size)
        network = (
            "Networks of " + listed([count(size) for size in sizes]) + " parameters"
            if sizes
            else "Different networks"
        )
    return f"{network}, judged by the same protocol where numbers stand in one column."


def verdict(found: list[Member], cka: list[dict]) -> list[str]:
    return [said for said in (leads(found), alike(cka)) if said]


def leads(found: list[Member]) -> str:
    """By the first protocol that all have, on test where all have it."""
    for key in sorted(keys(found), key=lambda key: key[0] == "head"):
        for split in ("test", "val"):
            values = {m.name: mean(v) for m in found if (v := m.percent(key, split))}
            if len(values) == len(found):
                return ranking(found, key, split, values)
    return "No protocol was measured in all of these runs, so they cannot be ranked."


def ranking(found: list[Member], key: tuple, split: str, values: dict[str, float]) -> str:
    order = sorted(values, key=values.get, reverse=True)
    best, second = order[0], order[1]
    measure = Measure(*key).title.lower().replace("knn", "kNN")
    gap = values[best] - values[second]
    where = f"by the {measure} on the {SPLITS[split]} split"
    if gap <= PAR:
        said = f"*{best}* ({values[best]:.1f} %) and *{second}* ({values[second]:.1f} %) are on a par {where}"
    else:
        said = f"*{best}* leads {where}: *{values[best]:.1f} %*, {gap:.1f} points above {second}"
    if len(order) > 2:
        rest = listed([f"{n} {values[n]:.1f} %" for n in order[2:]])
        said += f"; {rest} {'follows' if len(order) == 3 else 'follow'}"
    floors = {m.name: mean(v) for m in found if (v := m.percent(key, split, "untrained"))}
    if floors and max(floors.values()) - min(floors.values()) < PAR:
        floor = mean(floors.values())
        said += f". The untrained encoder reaches {floor:.1f} %"
        worse = [n for n in order if values[n] < floor - PAR]
        if worse:
            said += f", more than {listed(worse)}"
    return said + "."


def alike(cka: list[dict]) -> str:
    if not cka:
        return ""
    parts = [
        f"{matrix['b'].name}'s (CKA {matrix['last']:.2f})" for matrix in sorted(cka, key=lambda m: -m["last"])
    ]
    return f"{cka[0]['a'].name}'s features resemble {', then '.join(parts)}."
