"""Scales from 0 to 100 % on which several runs stand, one for each protocol."""

from statistics import mean

from common.metrics import LEVELS
from common.splits import SPLITS
from reports.accuracies import Accuracy, Protocol
from reports.compare.members import Member, list_protocols, shared_chance
from reports.scale import Mark, measure_label, take_row


def make_shared_scales(members: list[Member]) -> list[dict]:
    """A row a protocol that two members have: chance, floor and all members on one line, by the split all have."""
    rows = []
    for key in list_protocols(members):
        split = "test" if all(m.percent(key, "test") for m in members if m.accuracies.get(key)) else "val"
        values = {m.id: mean(m.percent(key, split)) for m in members if m.percent(key, split)}
        if len(values) < 2:
            continue
        marks = _mark_levels(members, key, split)
        for member in members:
            if member.id in values:
                at = values[member.id]
                marks.append(
                    {"kind": member.id, "at": at, "text": f"{member.name} {at:.1f}", "is_member": True}
                )
        place_labels(marks)
        accuracy = Accuracy(*key)
        rows.append(
            {
                "title": accuracy.title,
                "protocol": f"{accuracy.protocol}; {SPLITS[split]} split",
                "marks": marks,
                "above": max((m["row"] for m in marks if m["is_member"]), default=0),
                "below": max((m["row"] for m in marks if not m["is_member"]), default=0),
                "alt": ", ".join(m["text"] for m in sorted(marks, key=lambda m: -m["at"])),
            }
        )
    return rows


def _mark_levels(members: list[Member], key: Protocol, split: str) -> list[dict]:
    """Chance and floors; of several networks or data sets there are several floors, and none is drawn."""
    level = shared_chance(members, key)
    marks = [] if level is None else [Mark("chance", level, f"chance {level:.0f}")]
    for floor in LEVELS:
        levels = {round(mean(percents), 1) for m in members if (percents := m.percent(key, split, floor))}
        if len(levels) == 1:
            marks.append(Mark(floor, level := levels.pop(), f"{floor} {level:.1f}"))
    return [{"kind": mark.kind, "at": mark.at, "text": mark.text, "is_member": False} for mark in marks]


def place_labels(marks: list[dict]) -> None:
    """Rows of their own for labels that would touch: members above the line, floors below."""
    for is_member in (True, False):
        ends: list[float] = []
        for mark in sorted((m for m in marks if m["is_member"] == is_member), key=lambda m: m["at"]):
            mark["side"] = "end" if mark["at"] > 92 else "middle"
            if mark["at"] < 6:
                mark["side"] = "start"
            mark["row"] = take_row(ends, *measure_label(mark["text"], mark["at"], mark["side"]))
