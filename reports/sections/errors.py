"""Where does it fail? The confusion matrix, and the hardest and the easiest examples."""

from reports.run import Run
from reports.sections.confusion import confusion
from reports.sections.hardest import NAMES, hardest
from reports.sections.section import Section


def section(run: Run) -> Section | None:
    matrix, extremes = confusion(run), [found for name in NAMES if (found := hardest(run, name))]
    if not matrix and not extremes:
        return None
    shows = {found["name"] for found in extremes} | ({"confusion"} if matrix else set())
    says = matrix["finding"] if matrix else ""
    data = {"matrix": matrix, "extremes": extremes}
    return Section("errors", "Where it fails", "Where does it fail?", "errors.html", says, shows, data)
