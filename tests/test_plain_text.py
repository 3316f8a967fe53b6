"""A dollar sign in a name of the user's is drawn as one, in every figure."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from callbacks.figures.clustering import draw_clusters
from callbacks.figures.confusion import draw_confusion
from callbacks.figures.latents import draw_strips
from callbacks.plotting.neighbors import draw_image_neighbors
from callbacks.plotting.scatter import draw_legend
from callbacks.plotting.style import make_axes_grid, show_example, write_title

ROOT = Path(__file__).parents[1]
DRAWING = [
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for folder in ("figures", "plotting")
    for path in sorted((ROOT / "callbacks" / folder).glob("*.py"))
    if "figure.text(" in path.read_text()
    or "import pyplot" in path.read_text()
    or "axis.text(" in path.read_text()
]
NAMES = ["under $5 and over $3", "$x_1^2$", r"$\frac$"]  # the last one is an error as a formula


def draw_all(names):
    """Figures of all kinds that write names."""
    rng = np.random.default_rng(0)
    xy, labels = rng.normal(size=(30, 2)), np.arange(30) % 3
    yield draw_confusion(np.eye(3, dtype=int) * 9 + 1, names, "val", "classifier")
    yield draw_clusters(xy, labels, labels, names)
    yield draw_strips(np.zeros((3, 4, 8, 8, 3), np.uint8), names, names + names[:1])
    figure, axes = make_axes_grid(1, 3)
    for axis, name in zip(axes[0], names, strict=True):
        show_example(axis, np.zeros((8, 8, 3), np.uint8), name)
    draw_legend(axes[0, 0], names, ["#123456"] * 3, None)
    write_title(figure, names[0], names[1])
    yield figure
    neighbors = [[k, k, 0.5] for k in range(3)]
    entries = [{"query": {"label": 1, "position": 0}, "neighbors": neighbors, "pixels": neighbors}]
    images = {kind: np.zeros((3, 8, 8, 3), np.uint8) for kind in ("neighbors", "pixels")}
    yield draw_image_neighbors(entries, {"query": np.zeros((1, 8, 8, 3), np.uint8), **images}, names)


def test_no_text_of_any_figure_is_a_formula(tmp_path):
    for number, figure in enumerate(draw_all(NAMES)):
        figure.savefig(tmp_path / f"{number}.png")
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)
        assert any("$" in text.get_text() for text in texts)
        plt.close(figure)


@pytest.mark.slow
@pytest.mark.parametrize("module", DRAWING)
def test_whatever_draws_sets_it_when_it_is_imported(module):
    code = f"import {module}, matplotlib; assert not matplotlib.rcParams['text.parse_math']"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_formula_can_still_be_asked_for():
    figure, axes = make_axes_grid(1, 1)
    assert axes[0, 0].text(0, 0, r"$\alpha$", parse_math=True).get_parse_math()
    plt.close(figure)
