import pytest
import torch
import torch.nn.functional as F

from callbacks.measures.knn import score_by_neighbors, top_k

CLASSES = 5


def make_clusters(queries=37, bank=101, dim=16, spread=1.0):
    """Clusters far from the origin, as features of networks that end in a ReLU are."""
    generator = torch.Generator().manual_seed(0)
    centers = 3 + torch.randn(CLASSES, dim, generator=generator)
    labels = torch.randint(CLASSES, (queries + bank,), generator=generator)
    features = centers[labels] + spread * torch.randn(queries + bank, dim, generator=generator)
    return features[:queries], features[queries:], labels[queries:]


def vote_one_by_one(queries, bank, labels, k, temperature):
    """One query and one neighbor at a time, in float64."""
    scores = torch.zeros(len(queries), CLASSES, dtype=torch.float64)
    for q, score in zip(queries.double(), scores, strict=True):
        similarity = F.cosine_similarity(q[None], bank.double())
        for i in similarity.argsort(descending=True)[:k]:
            score[labels[i]] += (similarity[i] / temperature).exp()
    return (scores / scores.sum(1, keepdim=True)).float()


@pytest.mark.parametrize("k", [1, 7, 100, 101, 500])
@pytest.mark.parametrize("chunk", [1, 12, 37, 256])
def test_scores_are_the_vote_of_the_paper(k, chunk):
    scores = score_by_neighbors(
        *make_clusters(), CLASSES, k, temperature=0.07, chunk=chunk, precision="highest"
    )
    torch.testing.assert_close(
        scores, vote_one_by_one(*make_clusters(), k, temperature=0.07), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("k", [5, 50])
def test_bf16_products_hardly_move_the_vote(k):
    queries, bank, labels = make_clusters(queries=200, bank=1000, spread=2.0)
    fast, exact = (
        score_by_neighbors(queries, bank, labels, CLASSES, k, precision=p) for p in ("medium", "highest")
    )
    assert (fast - exact).abs().mean() < 0.01
    assert (fast.argmax(1) != exact.argmax(1)).float().mean() < 0.02


@pytest.mark.parametrize("k", [20, 200])
def test_scores_agree_with_lightly(k):
    benchmarking = pytest.importorskip("lightly.utils.benchmarking")
    queries, bank, labels = make_clusters(queries=100, bank=1000)
    theirs = benchmarking.knn_predict(F.normalize(queries), F.normalize(bank).T, labels, CLASSES, knn_k=k)[
        :, 0
    ]
    assert torch.equal(
        score_by_neighbors(queries, bank, labels, CLASSES, k, precision="highest").argmax(1), theirs
    )


def test_lengths_of_features_and_order_of_the_bank_do_not_matter():
    queries, bank, labels = make_clusters()
    scores = score_by_neighbors(queries, bank, labels, CLASSES, precision="highest")
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(1))
    lengths = torch.linspace(0.1, 10, len(bank))[:, None]
    moved = score_by_neighbors(
        9 * queries, (lengths * bank)[order], labels[order], CLASSES, precision="highest"
    )
    torch.testing.assert_close(moved, scores, atol=1e-4, rtol=0)


def test_copies_of_one_example_share_the_vote():
    bank = torch.ones(4, 3)
    scores = score_by_neighbors(bank[:1], bank, torch.tensor([0, 1, 1, 1]), num_classes=3, k=4)
    torch.testing.assert_close(scores, torch.tensor([[0.25, 0.75, 0.0]]))


@pytest.mark.parametrize("k", [1, 3, 24])
def test_top_k_finds_what_torch_topk_finds(k):
    s = torch.rand(6, 4, 24, generator=torch.Generator().manual_seed(0))
    values, positions = top_k(s, k)
    assert torch.equal(values.sort(descending=True).values, s.flatten(1).topk(k).values)
    assert torch.equal(s.flatten(1).gather(1, positions), values)


def test_scoring_changes_neither_inputs_nor_precision():
    with torch.inference_mode():
        before = torch.get_float32_matmul_precision()
        queries, bank, labels = make_clusters()
        copies = queries.clone(), bank.clone()
        score_by_neighbors(queries, bank, labels, CLASSES)
        assert torch.equal(queries, copies[0]) and torch.equal(bank, copies[1])
        assert torch.get_float32_matmul_precision() == before


def test_no_query_has_no_score():
    _, bank, labels = make_clusters()
    assert score_by_neighbors(bank[:0], bank, labels, CLASSES).shape == (0, CLASSES)


@pytest.mark.parametrize("labels", [[], [-1, 0], [0, CLASSES]])
def test_banks_that_cannot_vote_are_refused(labels):
    with pytest.raises(ValueError, match="kNN needs"):
        score_by_neighbors(
            torch.ones(1, 2), torch.ones(len(labels), 2), torch.tensor(labels, dtype=torch.long), CLASSES
        )
