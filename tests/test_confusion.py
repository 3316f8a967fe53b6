"""Confusion matrices: counts against loops, and a picture that can be read with 2 to 37 classes."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from callbacks.figures.confusion import (
    MOST,
    PAPER,
    Confusion,
    describe_worst_error,
    draw_confusion,
    row_percentages,
    select_surest_per_cell,
    tint_strengths,
)
from tests.conftest import CLASSES
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    write_numbers,
)


def random_counts(classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 12, (classes, classes)) + 60 * np.eye(classes, dtype=int)


def test_per_cent_are_of_the_true_class():
    percent = row_percentages(np.array([[6, 2], [0, 0]]))
    assert percent.tolist() == [[75, 25], [0, 0]]


def test_errors_are_exaggerated_and_cells_below_one_per_cent_blank():
    strength = tint_strengths(np.array([[50.0, 10.0, 0.9], [40.0, 60.0, 0], [0.5, 1, 98.5]]))
    assert strength.round(3).tolist() == [[0.5, 0.34, 0], [1, 0.6, 0], [0, 0.034, 0.985]]


def test_the_surest_of_each_cell_are_those_of_loops():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(6, (80,), generator=generator)
    sure = torch.rand(80, generator=generator)
    surest = select_surest_per_cell(cells, sure, 7, most=10)
    for cell in range(7):
        members = [i for i in range(80) if cells[i] == cell]
        assert surest[cell].tolist() == sorted(members, key=lambda i: -float(sure[i]))[:10]


def test_the_most_frequent_mistake_is_named():
    counts = np.array([[90, 10, 0], [0, 2, 1], [0, 0, 5]])
    assert describe_worst_error(counts, ["a", "b", "c"]) == "Most often it takes b for c: 33 % of them."
    assert describe_worst_error(np.eye(3, dtype=int), ["a", "b", "c"]) == "No mistakes."


@pytest.mark.parametrize("classes", [2, 10, 37])
def test_numbers_can_be_read_in_their_cells(classes):
    counts = random_counts(classes)
    figure = draw_confusion(counts, [f"a class called {k}" for k in range(classes)], "val", "classifier")
    (axis,) = figure.axes
    percent = row_percentages(counts)
    texts = {tuple(map(int, text.get_position())): text for text in axis.texts}
    assert {(x, y): f"{percent[y, x]:.0f}" for y, x in np.argwhere(percent >= 1)} == {
        place: text.get_text() for place, text in texts.items()
    }
    figure.canvas.draw()
    cell = axis.get_window_extent().width / classes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert max(box.width for box in boxes) < cell and max(box.height for box in boxes) < cell
    assert min(text.get_fontsize() for text in [*axis.texts, *axis.get_yticklabels()]) >= 6
    names = sorted(label.get_window_extent().y0 for label in axis.get_yticklabels())
    assert (np.diff(names) > axis.get_yticklabels()[0].get_fontsize()).all()  # none on another
    picture = axis.images[0].get_array()
    blank = np.argwhere(percent < 1)
    assert all(to_hex(picture[row, column]) == PAPER for row, column in blank)


def test_of_very_many_classes_the_frequent_are_drawn():
    counts = random_counts(60)
    counts[7] = 0
    figure = draw_confusion(counts, [str(k) for k in range(60)], "test", "linear probe")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    frequent = counts.sum(1).argsort(kind="stable")[::-1][:MOST]
    assert names == [str(k) for k in sorted(frequent)] and "7" not in names


@pytest.mark.parametrize(
    "method, number, head",
    [("SimCLR", 0, "linear probe"), ("VAE", 0, "linear probe"), ("Classifier", 0, "classifier")],
)
def test_the_callback_counts_the_predictions_of_the_head(method, number, head, data_dir, tmp_path):
    trainer = fit_case(find_case(method, number), data_dir, tmp_path, Confusion())
    facts, _ = read_figure(tmp_path, "confusion")
    assert facts["classes"] == CLASSES and facts["head"] == head and facts["split"] == "val"
    labels = trainer.datamodule.datasets["val"].labels
    counts = np.array(facts["counts"])
    assert counts.sum(1).tolist() == labels.bincount(minlength=4).tolist()
    for i, row in enumerate(facts["examples"]):
        for j, indices in enumerate(row):
            assert len(indices) == min(10, counts[i, j]) and all(labels[k] == i for k in indices)
    if method == "Classifier":
        assert np.trace(counts) / counts.sum() == pytest.approx(float(trainer.callback_metrics["val/top1"]))


def test_texts_have_a_matrix_and_numbers_do_not(data_dir, tmp_path):
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, Confusion())
    facts, _ = read_figure(tmp_path, "confusion")
    assert facts["classes"] == ["negative", "positive"]
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path / "numbers", callback := Confusion())
    assert callback.skip_reason and not (tmp_path / "numbers" / "figures").exists()
