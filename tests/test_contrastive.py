"""Losses that compare a view with others: DCL, InfoNCE against a batch or a queue, SupCon."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ssl_modules.losses import blockwise
from ssl_modules.losses.contrastive import info_nce, nt_xent, weigh_partners
from ssl_modules.losses.moco import queue_contrast
from ssl_modules.losses.supcon import supervised_contrast
from tests.losses import assert_same_gradients, draw_normal, make_pair


def cosine(a, b):
    return a @ b / (a.norm() * b.norm())


def dcl_in_loops(z1, z2, temperature, sigma=None):
    """Equations 5 and 7 of the DCL paper, view by view, in float64."""
    images = len(z1)
    similar = (
        torch.stack([(cosine(a, b) / sigma).exp() for a, b in zip(z1, z2, strict=True)]) if sigma else None
    )
    loss = 0
    for own, other in ((z1, z2), (z2, z1)):
        for i in range(images):
            negatives = [cosine(own[i], z[k]) for z in (own, other) for k in range(images) if k != i]
            weight = 2 - (similar[i] / similar.mean()).detach() if sigma else 1
            positive = weight * cosine(own[i], other[i]) / temperature
            total = sum((s / temperature).exp() for s in negatives)
            loss = loss + (total.log() - positive) / (2 * images)
    return loss


@pytest.fixture(params=[blockwise.BLOCK, 30, 1], ids=["at once", "in blocks", "view by view"])
def block(request, monkeypatch):
    """How many similarities are in memory at a time."""
    monkeypatch.setattr(blockwise, "BLOCK", request.param)


@pytest.mark.parametrize("images", [2, 7])
@pytest.mark.parametrize("sigma", [None, 0.5, 2.0])
def test_dcl_is_the_equation_of_the_paper(images, sigma, block):
    fast = partial(nt_xent, temperature=0.3, decoupled=True, sigma=sigma)
    assert_same_gradients(fast, partial(dcl_in_loops, temperature=0.3, sigma=sigma), *make_pair(images))


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_dcl_agrees_with_lightly(sigma):
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.DCLLoss(0.2) if sigma is None else lightly.DCLWLoss(0.2, sigma=sigma)
    assert_same_gradients(
        partial(nt_xent, temperature=0.2, decoupled=True, sigma=sigma), theirs, *make_pair(16)
    )


def test_dcl_known_value_when_all_views_look_alike():
    z = torch.ones(4, 3)
    assert nt_xent(z, z, 0.5, decoupled=True).item() == pytest.approx(math.log(6), abs=1e-5)


def test_dclw_weights_have_mean_one_and_grow_with_unlikeness():
    z1, z2 = (F.normalize(z, dim=1) for z in make_pair(9))
    weights, cosines = weigh_partners(z1, z2, 0.5), (z1 * z2).sum(1)
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(weights.argsort(), cosines.argsort(descending=True))


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("world", [2, 3])
def test_dcl_of_processes_has_the_mean_of_the_whole_batch(world, sigma):
    z1, z2 = make_pair(12)
    parts = zip(z1.chunk(world), z2.chunk(world), strict=True)
    losses = [
        nt_xent(*part, 0.2, (z1, z2), first=12 // world * rank, decoupled=True, sigma=sigma)
        for rank, part in enumerate(parts)
    ]
    torch.testing.assert_close(sum(losses) / world, nt_xent(z1, z2, 0.2, decoupled=True, sigma=sigma))


# --- one query, one positive


def info_nce_in_loops(queries, candidates, positives, temperature):
    loss = 0
    for query, positive in zip(queries, positives.tolist(), strict=True):
        shares = [(cosine(query, c) / temperature).exp() for c in candidates]
        loss = loss - (shares[positive] / sum(shares)).log() / len(queries)
    return loss


def test_info_nce_is_its_equation():
    queries, candidates, positives = draw_normal(4, 5), draw_normal(9, 5, seed=1), torch.tensor([2, 0, 8, 5])
    fast = partial(info_nce, positives=positives, temperature=0.3)
    slow = partial(info_nce_in_loops, positives=positives, temperature=0.3)
    assert_same_gradients(fast, slow, queries, candidates)


def moco_in_loops(queries, keys, queue, temperature):
    """Equation 1 of the MoCo paper, query by query, in float64."""
    loss = 0
    for query, key in zip(queries, keys.detach(), strict=True):
        positive = (cosine(query, key) / temperature).exp()
        total = positive + sum((cosine(query, row.double()) / temperature).exp() for row in queue)
        loss = loss - (positive / total).log() / len(queries)
    return loss


def test_moco_is_the_equation_of_the_paper():
    queue = F.normalize(draw_normal(7, 5, seed=2), dim=1)
    fast = partial(queue_contrast, queue=queue, temperature=0.2)
    assert_same_gradients(
        fast, partial(moco_in_loops, queue=queue, temperature=0.2), *make_pair(4), reached=[0]
    )
    same = torch.ones(3, 5)
    value = queue_contrast(same, same, F.normalize(torch.ones(7, 5), dim=1), 0.2)
    assert value.item() == pytest.approx(math.log(8), abs=1e-5)


def test_moco_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.NTXentLoss(0.2, memory_bank_size=(7, 5))
    queries, keys = make_pair(4)
    theirs.memory_bank.bank = queue = F.normalize(draw_normal(7, 5, seed=2), dim=1)
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    torch.testing.assert_close(queue_contrast(queries, keys, queue, 0.2), theirs(queries, keys))


# --- labels


def supcon_in_loops(z, labels, temperature):
    """Equation 2 of the SupCon paper, anchor by anchor, in float64."""
    views, images, _ = z.shape
    rows = [(v, i) for v in range(views) for i in range(images)]
    loss = 0
    for v, i in rows:
        others = [row for row in rows if row != (v, i)]
        total = sum((cosine(z[v, i], z[row]) / temperature).exp() for row in others)
        known = labels[i] >= 0
        positives = [(u, k) for u, k in others if k == i or (known and labels[k] == labels[i])]
        terms = [((cosine(z[v, i], z[row]) / temperature).exp() / total).log() for row in positives]
        loss = loss - sum(terms) / len(positives) / len(rows)
    return loss


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1], [0, 0, 0, 0, 0], [-1, 1, -1, 1, 0]])
def test_supcon_is_the_equation_of_the_paper(views, labels):
    labels = torch.tensor(labels)
    fast = partial(supervised_contrast, labels=labels, temperature=0.3)
    assert_same_gradients(
        fast, partial(supcon_in_loops, labels=labels, temperature=0.3), draw_normal(views, 5, 4)
    )


def test_supcon_without_labels_is_simclr():
    z1, z2 = make_pair(6)
    loss = supervised_contrast(torch.stack([z1, z2]), torch.full((6,), -1), 0.2)
    torch.testing.assert_close(loss, nt_xent(z1, z2, 0.2))


def test_supcon_of_processes_has_the_mean_of_the_whole_batch():
    z, labels = draw_normal(2, 12, 4), torch.arange(12) % 5
    losses = [
        supervised_contrast(z[:, i : i + 4], labels[i : i + 4], 0.2, (z, labels), first=i) for i in (0, 4, 8)
    ]
    torch.testing.assert_close(sum(losses) / 3, supervised_contrast(z, labels, 0.2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z1, z2 = make_pair(6)
    queue, labels = F.normalize(draw_normal(7, 5, seed=2), dim=1), torch.arange(6) % 2
    losses = (
        partial(nt_xent, temperature=0.2, decoupled=True, sigma=0.5),
        partial(info_nce, positives=torch.arange(6), temperature=0.2),
        partial(queue_contrast, queue=queue, temperature=0.2),
        lambda z1, z2: supervised_contrast(torch.stack([z1, z2]), labels, 0.2),
    )
    for loss in losses:
        half, widened = loss(z1.to(dtype), z2.to(dtype)), loss(z1.to(dtype).float(), z2.to(dtype).float())
        assert half.dtype == torch.float32 and torch.equal(half, widened)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(loss(z1, z2), loss(z1, z2).float())
        plain = loss(z1, z2)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(loss(z1, z2), plain)
