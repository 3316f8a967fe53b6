"""Exact turns, and the method that predicts them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer

from callbacks.evaluation.epoch_means import EpochMeans
from common.batch import Batch, BatchKey
from ssl_modules.rotation import rotate_four_ways
from ssl_modules.rotnet import RotNet
from tests.errors import refused_in_one_line
from tests.methods import METHODS, build, train
from tests.test_methods import tiny

CASE = next(case for case in METHODS if case.method is RotNet)


def make_images(count=5, channels=3, side=8):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_turns_are_numpys_pixel_by_pixel(side, dtype, layout):
    x = make_images(side=side).mul(50).to(dtype).contiguous(memory_format=layout)
    copies, targets = rotate_four_ways(x)
    assert copies.dtype == dtype and copies.shape == (20, 3, side, side)
    for k in range(4):
        turned = np.rot90(x.float().numpy(), k, axes=(2, 3))  # counter-clockwise
        assert np.array_equal(copies[5 * k : 5 * (k + 1)].float().numpy(), turned)
    assert targets.dtype == torch.int64 and targets.tolist() == [k for k in range(4) for _ in range(5)]


def test_a_quarter_turn_brings_the_right_edge_to_the_top():
    x = torch.zeros(1, 1, 3, 3)
    x[..., 2] = 1  # the right column
    _, quarter, half, three_quarters = rotate_four_ways(x)[0]
    assert quarter[0, 0].all() and half[0, :, 0].all() and three_quarters[0, 2].all()


def test_images_that_are_not_square_are_refused_in_one_line():
    with refused_in_one_line("24x32"):
        rotate_four_ways(torch.zeros(2, 3, 24, 32))


def test_images_stay_as_they_were_and_nothing_is_drawn():
    x, state = make_images(), torch.get_rng_state()
    copy = x.clone()
    rotate_four_ways(x)[0].add_(1)
    assert torch.equal(x, copy) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_loss_and_accuracy_are_those_of_all_four_turns_of_each_image(batch_of_one_view, training):
    method = build(CASE, norm="group").train(training)  # no image influences another
    out = (method.training_step if training else method.validation_step)(batch_of_one_view, 0)
    losses, hits = [], []
    for image in batch_of_one_view.views[0]:
        for k in range(4):
            logits = method.turn_head(method.encode(torch.rot90(image, k, (1, 2))[None]))
            losses.append(F.cross_entropy(logits, torch.tensor([k])))
            hits.append(float(logits.argmax() == k))
    torch.testing.assert_close(out["loss"], torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        out["losses"], torch.stack(losses).view(-1, 4).mean(1).detach(), atol=1e-5, rtol=1e-5
    )
    assert out["metrics"]["rotation_top1"] == pytest.approx(np.mean(hits))


@pytest.fixture
def batch_of_one_view():
    return batch_of(make_images(count=6, side=16), 7)


def batch_of(view, key):
    return Batch(
        [view], torch.full((len(view),), -1), torch.arange(len(view)), BatchKey.single(key, len(view))
    )


def test_rotation_accuracy_is_logged_for_each_split(data_dir, tmp_path):
    method, data = build(CASE), tiny(data_dir, CASE)
    trainer = train(method, data, tmp_path)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    quiet |= {"accelerator": "cpu", "use_distributed_sampler": False, "default_root_dir": tmp_path}
    tester = Trainer(callbacks=[EpochMeans()], **quiet)
    tester.test(method, data, verbose=False)
    metrics |= {name: float(value) for name, value in tester.callback_metrics.items()}
    for split in ("train", "val", "test"):
        assert 0 <= metrics[f"{split}/rotation_top1"] <= 1 and metrics[f"{split}/loss"] > 0, split


def test_it_learns_which_way_is_up():
    torch.manual_seed(0)
    method = build(CASE)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    sky = torch.linspace(1, -1, 16)[:, None].expand(3, 16, 16)
    for step in range(30):
        noise = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        loss = method.training_step(batch_of(sky + 0.5 * noise, step), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    method.eval()
    out = method.validation_step(batch_of(sky + 0.5 * make_images(32, side=16), 0), 0)
    assert out["metrics"]["rotation_top1"] > 0.9
