"""Where does it fail? The confusion matrix, and the hardest and the easiest examples."""

from reports.run import Run
from reports.sections.confusion import load_confusion
from reports.sections.hardest import FIGURES, load_extremes
from reports.sections.section import Section


def make_section(run: Run) -> Section | None:
    matrix = load_confusion(run)
    extremes = [figure for name in FIGURES if (figure := load_extremes(run, name))]
    if not matrix and not extremes:
        return None
    figures = {figure["name"] for figure in extremes} | ({"confusion"} if matrix else set())
    answer = matrix["finding"] if matrix else ""
    data = {"matrix": matrix, "extremes": extremes}
    return Section("errors", "Where it fails", "Where does it fail?", "errors.html", answer, figures, data)
