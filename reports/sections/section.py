"""What a page shows of the figures: each section answers a question, from the data behind the figures."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Section:
    """A question, one computed sentence that answers it, and what `templates/sections/TEMPLATE` draws."""

    id: str
    nav: str
    title: str
    template: str
    says: str = ""
    shows: set[str] = field(default_factory=set)  # figures of which it shows all there is
    data: dict[str, Any] = field(default_factory=dict)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
