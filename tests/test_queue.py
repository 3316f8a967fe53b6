"""Queues, encoding in another order, and batch norm over groups."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.batch import Batch, BatchKey
from ssl_modules.moco import MoCo
from ssl_modules.networks.split_batch_norm import SplitBatchNorm2d, split_batch_norms
from ssl_modules.nnclr import NNCLR
from ssl_modules.queue import Queue
from ssl_modules.shuffle import encode_shuffled
from ssl_modules.swav import SwAV
from tests.losses import draw_normal
from tests.methods import Case, build, train
from tests.test_methods import tiny

PAIR = (16, 16)
SMALL = {"hidden_dim": 16, "out_dim": 8}


def test_a_queue_keeps_the_newest_directions():
    queue, first, second = Queue(5, 3), draw_normal(2, 3), draw_normal(4, 3, seed=1)
    start = queue.rows.clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(5))
    queue.push(first)
    torch.testing.assert_close(queue.rows, torch.cat([F.normalize(first, dim=1), start[:3]]))
    queue.push(second)
    torch.testing.assert_close(queue.rows, F.normalize(torch.cat([second, first[:1]]), dim=1))
    assert torch.equal(Queue(5, 3).rows, start)


def test_each_process_has_the_rows_that_it_pushed():
    queue = Queue(8, 3)
    batches = [draw_normal(4, 3, seed=seed) for seed in range(2)]
    for rows in batches:
        queue.push(rows)
    for local in (slice(0, 2), slice(2, 4)):
        own = F.normalize(torch.cat([batches[1][local], batches[0][local]]), dim=1)
        torch.testing.assert_close(queue.get_share(BatchKey(1, 4, local)), own)


@pytest.mark.parametrize("size", [30, 112])
@pytest.mark.parametrize("method", [MoCo, NNCLR, SwAV])
def test_a_queue_that_does_not_fit_is_refused(method, size, data_dir, tmp_path):
    case = Case(method, SMALL | {"queue_size": size}, sizes=PAIR)
    with pytest.raises(
        MisconfigurationException, match=rf"queue_size is {size}: give a multiple of .* \(28\), .* \(84\)"
    ):
        train(build(case), tiny(data_dir, case), tmp_path)


def test_the_queue_moves_once_a_batch_and_not_with_steps_by_hand(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 84}, sizes=PAIR)
    method = build(case)
    start = method.queue.rows.clone()
    train(method, tiny(data_dir, case), tmp_path, limit_train_batches=2)
    assert torch.equal(method.queue.rows[56:], start[:28])
    assert not torch.equal(method.queue.rows[:28], start[:28])


# --- another order


def test_what_is_encoded_in_another_order_comes_back_in_its_own():
    method, seen = build(Case(MoCo, SMALL | {"queue_size": 28})), []

    def encode(view):
        seen.append(view)
        return view.flatten(1)

    view, key = draw_normal(6, 3, 2, 2), BatchKey.single(4, 6)
    network = nn.Identity()
    network.forward = encode
    assert torch.equal(encode_shuffled(method, network, view, key), view.flatten(1))
    assert not torch.equal(seen[0], view) and torch.equal(
        seen[0].sum(0).round(decimals=4), view.sum(0).round(decimals=4)
    )


# --- batch norm over groups


def split_norm(groups: int, batch: int = 12) -> SplitBatchNorm2d:
    norm = nn.BatchNorm2d(3)
    norm.weight.data, norm.bias.data = draw_normal(3), draw_normal(3, seed=1)
    norm.trainer = type(
        "Trainer", (), {"world_size": 1, "datamodule": type("Data", (), {"batch_size": batch})}
    )
    norm.micro_batch = None
    split_batch_norms(norm, groups)
    return norm


@pytest.mark.parametrize("images", [12, 13])
def test_each_group_is_normalized_apart(images):
    norm, x = split_norm(4), draw_normal(images, 3, 5, 5)
    expected = []
    for part in x.tensor_split(4):
        mean, variance = part.mean((0, 2, 3), keepdim=True), part.var((0, 2, 3), keepdim=True, correction=0)
        scaled = (part - mean) / (variance + 1e-5).sqrt()
        expected.append(scaled * norm.weight[:, None, None] + norm.bias[:, None, None])
    torch.testing.assert_close(norm(x), torch.cat(expected))


def test_running_statistics_are_the_mean_over_groups_and_evaluation_is_plain():
    norm, x = split_norm(3), draw_normal(12, 3, 5, 5)
    norm(x)
    parts = x.tensor_split(3)
    torch.testing.assert_close(norm.running_mean, 0.1 * sum(p.mean((0, 2, 3)) for p in parts) / 3)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * sum(p.var((0, 2, 3)) for p in parts) / 3)
    assert norm.num_batches_tracked == 1
    plain = nn.BatchNorm2d(3)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm.eval()(x), plain.eval()(x))


def test_groups_of_one_image_are_refused(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28, "norm_groups": 15}, sizes=PAIR)
    with pytest.raises(MisconfigurationException, match="15 groups of 28 images at a time"):
        train(build(case), tiny(data_dir, case), tmp_path)


def test_moco_splits_its_batch_norms_on_a_single_process(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28}, sizes=PAIR)
    method = build(case)
    train(method, tiny(data_dir, case), tmp_path)
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(isinstance(m, SplitBatchNorm2d) and m.groups == 8 for m in norms)


def test_a_batch_of_mocos_step_gives_the_loss_of_the_equation():
    """Queries by the encoder, keys by the teacher, a queue of others: with the pieces called one by one."""
    method = build(Case(MoCo, SMALL | {"queue_size": 28, "temperature": 0.2}), norm="group")
    views = [draw_normal(6, 3, 16, 16, seed=seed) for seed in range(2)]
    out = method.training_step(Batch(views, torch.zeros(6).long(), torch.arange(6), BatchKey.single(1, 6)), 0)
    queries = F.normalize(method.projector(method.encoder(views[0])), dim=1)
    keys = F.normalize(method.teacher(views[1]), dim=1)
    logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ method.queue.rows.T], 1) / 0.2
    torch.testing.assert_close(
        out["loss"], F.cross_entropy(logits, torch.zeros(6).long()), atol=1e-4, rtol=1e-4
    )


def test_batch_norm_over_all_processes_is_refused(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28}, sizes=PAIR)
    method = nn.SyncBatchNorm.convert_sync_batchnorm(build(case))
    method._trainer = type("Trainer", (), {"world_size": 1})
    with pytest.raises(MisconfigurationException, match=r"leave trainer\.sync_batchnorm out"):
        split_batch_norms(method, 8)


def test_parts_of_a_batch_that_leave_a_group_with_one_image_are_refused(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28, "norm_groups": 4}, sizes=PAIR)
    with pytest.raises(
        MisconfigurationException, match=r"4 groups of 4 images at a time \(batch 28, micro_batch 8\)"
    ):
        train(build(case, micro_batch=8), tiny(data_dir, case), tmp_path)


class OtherNorm(nn.BatchNorm2d):
    """A batch norm of someone else's."""


def test_a_batch_norm_that_cannot_be_split_is_named(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28}, sizes=PAIR)
    method = build(case)
    next(m for m in method.modules() if isinstance(m, nn.BatchNorm2d)).__class__ = OtherNorm
    with pytest.raises(
        MisconfigurationException, match=r"MoCo cannot split a OtherNorm: set .*norm_groups to 1"
    ):
        train(method, tiny(data_dir, case), tmp_path)


def test_two_keys_an_image_need_a_queue_for_both(data_dir, tmp_path):
    case = Case(MoCo, SMALL | {"queue_size": 28, "symmetric": True}, sizes=PAIR)
    with pytest.raises(
        MisconfigurationException, match=r"queue_size is 28: .* \(56\), up to those of an epoch \(168\)"
    ):
        train(build(case), tiny(data_dir, case), tmp_path)
