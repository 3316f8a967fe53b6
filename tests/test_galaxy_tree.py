"""The decision tree of Galaxy Zoo, and columns of CSV files."""

import numpy as np
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.storage.csv_targets import parse_classes, read_columns
from datamodules.storage.galaxy_tree import (
    COLUMNS,
    PLACES,
    TREE,
    answer_shares,
    largest_answer,
    likeliest_path,
    list_paths,
)
from tests.galaxies import random_fractions, require_data

# --- the decision tree

SUMS = {  # the answers of a question sum to these columns; 1 where there are none
    1: [], 2: ["Class1.2"], 3: ["Class2.2"], 4: ["Class2.2"], 5: ["Class2.2"], 6: [], 7: ["Class1.1"],
    8: ["Class6.1"], 9: ["Class2.1"], 10: ["Class4.1"], 11: ["Class4.1"],
}  # fmt: skip
WAYS = {  # all answers that lead to an answer, itself included
    "Class1.3": ["Class1.3"],
    "Class7.2": ["Class1.1", "Class7.2"],
    "Class9.3": ["Class1.2", "Class2.1", "Class9.3"],
    "Class3.1": ["Class1.2", "Class2.2", "Class3.1"],
    "Class11.2": ["Class1.2", "Class2.2", "Class4.1", "Class11.2"],
    "Class5.4": ["Class1.2", "Class2.2", "Class5.4"],
    "Class8.7": ["Class6.1", "Class8.7"],
}


def assert_fractions_obey_the_tree(fractions: np.ndarray, tolerance: float):
    for question, leading in SUMS.items():
        reached = fractions[:, [COLUMNS.index(name) for name in leading]].sum(1) if leading else 1
        np.testing.assert_allclose(fractions[:, PLACES[question]].sum(1), reached, atol=tolerance)


def path_probabilities(share: np.ndarray) -> list[float]:
    """Of one galaxy, path by path and answer by answer."""
    probabilities = []
    for path in list_paths():
        question, product = 1, 1.0
        for answer in path:
            product *= share[PLACES[question][list(TREE[question]).index(answer)]]
            question = TREE[question][answer]
        assert question is None
        probabilities.append(product)
    return probabilities


def test_the_columns_are_the_challenges():
    assert len(COLUMNS) == 37 and COLUMNS[:4] == ["Class1.1", "Class1.2", "Class1.3", "Class2.1"]
    assert [len(answers) for answers in TREE.values()] == [3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6]
    assert sorted(place for places in PLACES.values() for place in places) == list(range(37))


def test_every_path_is_counted_once():
    edge_on = smooth = 3 * (7 + 1)
    face_on = 2 * (3 * 6 + 1) * 4 * (7 + 1)
    assert len(list_paths()) == len(set(list_paths())) == smooth + edge_on + face_on + 1 == 1265


def test_an_answers_fraction_is_the_product_of_the_shares_on_its_way():
    fractions = random_fractions(50)
    assert_fractions_obey_the_tree(fractions, 1e-12)
    share = answer_shares(fractions)
    for places in PLACES.values():
        np.testing.assert_allclose(share[:, places].sum(1), 1)
    for column, way in WAYS.items():
        product = np.prod([share[:, COLUMNS.index(name)] for name in way], axis=0)
        np.testing.assert_allclose(fractions[:, COLUMNS.index(column)], product, atol=1e-12)


def test_the_likeliest_path_is_that_of_all_paths_in_a_loop():
    fractions = random_fractions(30)
    for path, share in zip(likeliest_path(fractions), answer_shares(fractions), strict=True):
        probabilities = path_probabilities(share)
        assert sum(probabilities) == pytest.approx(1)
        assert path == np.argmax(probabilities)


def test_a_path_of_which_all_are_sure():
    fractions = np.zeros((1, 37))
    answers = ("disk", "not edge-on", "bar", "spiral", "loose arms", "2 arms", "small bulge", "odd", "merger")
    question = 1
    for answer in answers:
        fractions[0, PLACES[question][list(TREE[question]).index(answer)]] = 1
        question = TREE[question][answer]
    assert list_paths()[likeliest_path(fractions)[0]] == answers


def test_unknown_votes_have_no_path_and_no_answer():
    fractions = random_fractions(3)
    fractions[0, 5] = np.nan
    fractions[1] = 0
    path, answer = likeliest_path(fractions), largest_answer(fractions, 3)
    assert path[0] == path[1] == answer[0] == answer[1] == -1 and path[2] >= 0 and answer[2] >= 0
    assert largest_answer(fractions, 1)[0] >= 0  # another question, that is known


def test_the_largest_answer_is_that_with_most_votes():
    fractions = random_fractions(20)
    for question, answers in TREE.items():
        for answer, row in zip(largest_answer(fractions, question), fractions, strict=True):
            votes = [row[COLUMNS.index(f"Class{question}.{k + 1}")] for k in range(len(answers))]
            assert votes[answer] == max(votes)


# --- the CSV


def test_columns_are_read_in_the_order_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffid, a ,b,"c, d"\n7,1.5,,x\n\n008, 2,1e-3,"y\nz"\n', encoding="utf-8")
    columns = read_columns(path, ["c, d", "id"], ["b", "a"])
    assert columns.text == {"c, d": ["x", "y\nz"], "id": ["7", "008"]} and columns.lines == [2, 5]
    assert columns.numbers.dtype == np.float32
    np.testing.assert_array_equal(columns.numbers, np.float32([[np.nan, 1.5], [1e-3, 2]]))
    assert read_columns(path, ["id"], []).numbers.shape == (2, 0)


WRONG_ROWS = {  # what the last line is: (the line, what the message must say)
    "too short": ("3,0.5", "2 cells where the header has 3"),
    "too long": ("3,0.5,1,1", "4 cells where the header has 3"),
    "a word": ("3,0.5,many", "many"),
    "infinite": ("3,0.5,inf", "inf"),
    "a quote without end": ('3,0.5,"1', "unexpected end of data"),
    "no text": ("3,0.5,\x00\xff", "float"),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_a_row_that_does_not_parse_is_named_with_file_and_line(wrong, tmp_path):
    line, says = WRONG_ROWS[wrong]
    path = tmp_path / "a.csv"
    path.write_bytes(f"id,a,b\n1,0.5,0.5\n\n2,0,1\n{line}".encode("latin-1"))
    with pytest.raises(MisconfigurationException) as error:
        read_columns(path, ["id"], ["a", "b"])
    assert f"{path}, line 5: " in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("text", ["id,a\n1,2\n", ""])
def test_a_column_that_is_not_there_is_named(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(MisconfigurationException, match="no column 'b'") as error:
        read_columns(path, ["id"] if text else [], ["b"])
    assert str(path) in str(error.value)


@pytest.mark.parametrize("cells, labels, names", [
    (["1", "0", "-1", "", "1"], [1, 0, -1, -1, 1], ["0", "1"]),
    (["10", "2", "2"], [1, 0, 0], ["2", "10"]),
    (["spiral", "round", "", "spiral"], [1, 0, -1, 1], ["round", "spiral"]),
    (["", "-1"], [-1, -1], []),
])  # fmt: skip
def test_cells_become_classes(cells, labels, names):
    classes, class_names = parse_classes(cells)
    assert classes.tolist() == labels and classes.dtype == np.int64 and class_names == names


# --- the real ones


def test_simulated_fractions_obey_the_tree():
    source = require_data("galaxyzoo_sim")
    fractions = read_columns(source / "training_solutions_rev1.csv", [], COLUMNS).numbers
    assert fractions.shape == (4000, 37)
    assert_fractions_obey_the_tree(fractions, 1e-5)
    paths = likeliest_path(fractions)
    for k in range(0, 4000, 400):
        probabilities = path_probabilities(answer_shares(fractions)[k])
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert probabilities[paths[k]] == pytest.approx(max(probabilities))
