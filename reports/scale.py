"""The scale from 0 to 100 % on which a run, floors, chance and a ceiling stand, with labels that never touch."""

from dataclasses import dataclass

from common.metrics import LEVELS
from reports.accuracies import Accuracy

LETTER = 2.1  # per cent of a phone's width that a letter takes


@dataclass
class Mark:
    """Something on the scale; `row`: of labels below the line; `side` keeps the label inside."""

    kind: str
    at: float
    text: str
    row: int = 0

    @property
    def side(self) -> str:
        if self.at < 8:
            return "start"
        return "end" if self.at > 88 else "middle"

    @property
    def span(self) -> tuple[float, float]:
        """Where the label starts and ends."""
        return measure_label(self.text, self.at, self.side)


def measure_label(text: str, at: float, side: str) -> tuple[float, float]:
    """Where a label starts and ends, in per cent of a phone's width."""
    width = LETTER * len(text)
    left = at - {"start": 0, "middle": width / 2, "end": width}[side]
    return left, left + width


def take_row(ends: list[float], left: float, right: float) -> int:
    """The first row with room for a label; `ends`, where each row's last label ends, gets its end."""
    row = next((row for row, end in enumerate(ends) if left > end + 1), len(ends))
    ends[row : row + 1] = [right]
    return row


def make_scale(accuracy: Accuracy, chance: float | None, ceiling: float | None = None) -> list[Mark]:
    """Chance, floors, ceiling and this run, left to right; labels that would touch go to rows of their own."""
    marks = []
    if chance is not None:
        marks.append(
            Mark("chance", chance, f"chance {chance:.0f}" if chance >= 1 else f"chance {chance:.1f}")
        )
    for floor in LEVELS:
        if (level := accuracy.percent(floor)) is not None:
            marks.append(Mark(floor, level, f"{floor} {level:.1f}"))
    if ceiling is not None:
        marks.append(Mark("ceiling", ceiling, f"ceiling {ceiling:.1f}"))
    marks.sort(key=lambda mark: mark.at)
    ends: list[float] = []
    for mark in marks:
        mark.row = take_row(ends, *mark.span)
    if (reached := accuracy.percent()) is not None:
        marks.append(Mark("own", reached, f"{reached:.1f}"))
    return marks
