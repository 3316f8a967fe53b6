"""SimSiam, FastSiam, and the learning rate that stays."""

import pytest
import torch

from common.batch import Batch, BatchKey
from ssl_modules.simsiam import SimSiam
from tests.losses import draw_normal
from tests.methods import Case, build, train
from tests.test_methods import Spy, tiny

SMALL = {"hidden_dim": 16, "predictor_dim": 8}


def make_batch(views: int) -> Batch:
    images = [draw_normal(6, 3, 16, 16, seed=seed) for seed in range(views)]
    return Batch(images, torch.zeros(6), torch.arange(6), BatchKey.single(1, 6))


def compare_in_loops(method: SimSiam, batch: Batch) -> torch.Tensor:
    """- cos of each image's prediction from a view and the mean of its other projections, one at a time."""
    z = [method.projector(method.encoder(view)) for view in batch.views]
    loss = 0
    for view in range(len(z)):
        predictions = method.predictor(z[view])
        for image in range(len(predictions)):
            others = [z[u][image].detach() for u in range(len(z)) if u != view]
            p, target = predictions[image], sum(others) / len(others)
            cosine = p @ target / (p.norm() * target.norm())
            loss = loss - cosine / (len(z) * len(predictions))
    return loss


@pytest.mark.parametrize("views", [2, 4])
def test_the_step_is_the_equation_of_the_paper(views):
    fast, slow = (build(Case(SimSiam, SMALL)) for _ in range(2))
    loss, expected = (
        fast.training_step(make_batch(views), 0)["loss"],
        compare_in_loops(slow, make_batch(views)),
    )
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    loss.backward()
    expected.backward()
    for ours, theirs in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_two_views_agree_with_lightly():
    lightly = pytest.importorskip("lightly.loss")
    method, batch = build(Case(SimSiam, SMALL)), make_batch(2)
    z1, z2 = (method.projector(method.encoder(view)) for view in batch.views)
    p1, p2, negative = method.predictor(z1), method.predictor(z2), lightly.NegativeCosineSimilarity()
    expected = 0.5 * (negative(p1, z2) + negative(p2, z1))
    torch.testing.assert_close(method.training_step(batch, 0)["loss"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("constant", [True, False])
def test_the_learning_rate_of_the_predictor_stays(constant, data_dir, tmp_path):
    case = Case(SimSiam, SMALL | {"constant_predictor_rate": constant}, sizes=(16, 16))
    method = build(case, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=0.01))
    trainer = train(method, tiny(data_dir, case), tmp_path, max_epochs=2, callbacks=[Spy()])
    predictor, rates = {id(p) for p in method.predictor.parameters()}, {}
    for group in trainer.optimizers[0].param_groups:
        for p in group["params"]:
            rates[id(p)] = group["lr"], group["weight_decay"]
            assert p.ndim < 2 or group["weight_decay"] == 0.01
    assert rates.keys() == {id(p) for p in method.parameters()}
    assert {rate for p, (rate, _) in rates.items() if p in predictor} == {0.1 if constant else 0.0}
    assert {rate for p, (rate, _) in rates.items() if p not in predictor} == {0.0}
