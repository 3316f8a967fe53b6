"""Neighbors against brute force, and what the picture's data say of them."""

import pytest
import torch

from callbacks.evaluation.features import FeatureSet
from callbacks.figures.retrieval import Retrieval, find_nearest, neighbor_precision, search_bank
from tests.draws import draw_normal
from tests.figure_runs import (
    find_case,
    fit_case,
    read_figure,
    read_last_metrics,
    write_numbers,
)


def test_nearest_is_that_of_all_angles():
    queries, bank = draw_normal(7, 5), 3 * draw_normal(40, 5, seed=1)
    similarity, places = find_nearest(queries, bank, 6, chunk=3)
    for query, cosines, where in zip(queries, similarity, places, strict=True):
        angles = [float(query @ b / query.norm() / b.norm()) for b in bank]
        best = sorted(range(40), key=lambda i: -angles[i])[:6]
        assert where.tolist() == best
        assert cosines.tolist() == pytest.approx([angles[i] for i in best], abs=1e-5)


def test_only_directions_count_and_a_small_bank_is_returned_whole():
    queries, bank = draw_normal(3, 4), draw_normal(5, 4, seed=1)
    (a, i), (b, j) = find_nearest(queries, bank, 10), find_nearest(7 * queries, 0.1 * bank, 10)
    torch.testing.assert_close(a, b)
    assert torch.equal(i, j) and i.shape == (3, 5)


def test_neighbors_are_known_by_their_position_in_the_split():
    bank = FeatureSet(torch.eye(3), torch.tensor([0, 1, 2]), torch.tensor([10, 20, 30]))
    nearest = search_bank(FeatureSet(torch.eye(3)[[2]], torch.tensor([0]), torch.tensor([0])), bank, 1)
    assert (nearest.index.item(), nearest.labels.item(), nearest.similarity.item()) == (30, 2, 1)


def test_precision_counts_neighbors_of_the_query_class():
    neighbors = torch.tensor([[0, 0, 1], [2, 1, 1], [2, 2, 2]])
    assert neighbor_precision(torch.tensor([0, 1, 0]), neighbors) == pytest.approx((2 + 2 + 0) / 9)


@pytest.mark.parametrize("method", ["SimCLR", "VAE", "Classifier", "Autoencoder"])
def test_the_callback_lists_training_examples(method, data_dir, tmp_path):
    trainer = fit_case(find_case(method), data_dir, tmp_path, Retrieval(queries=3, k=4))
    facts, _ = read_figure(tmp_path, "retrieval")
    train, val = (trainer.datamodule.datasets[split] for split in ("train", "val"))
    assert facts["measured"] == len(val) == 8 and len(facts["queries"]) == 3
    assert len({row["query"]["label"] for row in facts["queries"]}) == 3
    for row in facts["queries"]:
        assert row["query"]["split"] == "val" and val.labels[row["query"]["index"]] == row["query"]["label"]
        for neighbors in (row["neighbors"], row["pixels"]):
            assert all(train.labels[index] == label for index, label, _ in neighbors) and len(neighbors) == 4
            similarities = [similarity for *_, similarity in neighbors]
            assert similarities == sorted(similarities, reverse=True) and similarities[0] <= 1.0001
    logged = read_last_metrics(tmp_path)
    assert logged["val/precision_at_4"] == pytest.approx(facts["precision_at_4"]["neighbors"])
    assert logged["pixels/val/precision_at_4"] == pytest.approx(facts["precision_at_4"]["pixels"])


def test_the_floor_is_that_of_pixels(data_dir, tmp_path):
    trainer = fit_case(find_case("SimCLR"), data_dir, tmp_path, Retrieval(queries=1, k=3))
    facts, _ = read_figure(tmp_path, "retrieval")
    assert facts["precision_at_3"]["pixels"] > 0.8  # a class is a color here
    (row,), data = facts["queries"], trainer.datamodule
    raw = {}
    for split in ("train", "val"):
        positions = range(len(data.datasets[split]))
        raw[split] = data.read_batch(split, positions, torch.device("cpu")).views[0].flatten(1)
    similarity, places = find_nearest(raw["val"][[row["query"]["index"]]], raw["train"], 3)
    assert [index for index, *_ in row["pixels"]] == places[0].tolist()
    assert [neighbor[2] for neighbor in row["pixels"]] == pytest.approx(similarity[0].tolist(), abs=1e-5)


def test_texts_have_neighbors_by_features_and_by_characters(data_dir, tmp_path):
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, Retrieval())
    facts, _ = read_figure(tmp_path, "retrieval")
    assert facts["raw"] == "characters" and set(facts["queries"][0]) == {"query", "neighbors", "characters"}


def test_numbers_have_neighbors_and_no_precision(data_dir, tmp_path):
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path / "numbers", Retrieval())
    facts, _ = read_figure(tmp_path / "numbers", "retrieval")
    assert "precision_at_10" not in facts and facts["queries"][0]["neighbors"][0][1] is None
