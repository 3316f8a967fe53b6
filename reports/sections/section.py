"""What a report shows of the figures: each section answers a question, from the data behind the figures."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Section:
    """A question, one computed sentence that answers it, and what `templates/sections/TEMPLATE` draws.

    `nav` is its entry in the contents; `figures` are those of which it shows all there is.
    """

    id: str
    nav: str
    title: str
    template: str
    answer: str = ""
    figures: set[str] = field(default_factory=set)
    data: dict[str, Any] = field(default_factory=dict)
