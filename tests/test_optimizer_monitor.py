"""OptimizerMonitor: the norm is that of the summed gradient before it is clipped, at the Trainer's log steps."""

import math

import pytest
import torch
from lightning.pytorch import Callback

from callbacks.evaluation.optimizer_monitor import OptimizerMonitor
from callbacks.loggers.csv import CSVLogger
from ssl_modules.schedules import move_by_cosine
from tests.figure_runs import find_case
from tests.methods import build, train
from tests.test_methods import tiny


class AddGradients(Callback):
    """The norm, at each optimizer step, of gradients that were added up after each backward, number by number."""

    def __init__(self, accumulate: int):
        self.accumulate, self.batches, self.sums, self.norms, self.used = accumulate, 0, {}, [], []

    def on_before_backward(self, trainer, module, loss):
        gradients = torch.autograd.grad(loss, self.list_trained(module), retain_graph=True, allow_unused=True)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                self.sums[i] = self.sums.get(i, 0) + gradient.double()
        self.batches += 1
        if self.batches % self.accumulate == 0:
            self.norms.append(math.sqrt(sum(float((total**2).sum()) for total in self.sums.values())))
            self.sums = {}

    def on_train_batch_end(self, trainer, module, *_):
        if self.batches % self.accumulate == 0:
            used = [p.grad for p in self.list_trained(module) if p.grad is not None]
            self.used.append(math.sqrt(sum(float((gradient**2).sum()) for gradient in used)))

    @staticmethod
    def list_trained(module) -> list[torch.nn.Parameter]:
        return [p for p in module.parameters() if p.requires_grad]


def fit(method, data_dir, folder, accumulate=1, **options):
    """The series of metrics.csv, and the norms by hand, of two epochs of eight batches."""
    case, by_hand = find_case(type(method).__name__), AddGradients(accumulate)
    data = tiny(data_dir, case, batch_size=11)
    options = {"callbacks": [OptimizerMonitor(), by_hand], "max_epochs": 2, "log_every_n_steps": 1} | options
    options |= {"accumulate_grad_batches": accumulate, "logger": CSVLogger(str(folder))}
    train(method, data, folder, **options)
    return CSVLogger(str(folder)).read_series(), by_hand


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_norm_is_that_of_the_summed_gradient_before_clipping(accumulate, clip, data_dir, tmp_path):
    method = build(find_case("SimCLR"))
    series, by_hand = fit(method, data_dir, tmp_path, accumulate, gradient_clip_val=clip)
    norms = series["train/gradient_norm"][:, 2]
    assert len(by_hand.norms) == 16 // accumulate
    assert norms == pytest.approx(by_hand.norms, rel=1e-4)
    if clip:
        assert max(by_hand.used) <= clip * 1.001 < min(norms)
    assert "weight_decay" not in series


@pytest.mark.parametrize("every", [3, 5, 50])
def test_it_is_logged_at_log_steps_alone(every, data_dir, tmp_path):
    method = build(find_case("SimCLR"))
    series, by_hand = fit(method, data_dir, tmp_path, log_every_n_steps=every)
    steps = list(range(every - 1, 16, every))
    logged = series["train/gradient_norm"] if "train/gradient_norm" in series else torch.zeros(0, 3).numpy()
    assert logged[:, 1].tolist() == steps
    assert logged[:, 2] == pytest.approx([by_hand.norms[step] for step in steps], rel=1e-4)
    if steps:
        assert series["train/loss_step"][:, 1].tolist() == steps  # of the same steps as the loss


def test_weight_decay_is_logged_where_it_moves(data_dir, tmp_path):
    method = build(find_case("SimCLR"), weight_decay_end=0.2)
    series, _ = fit(method, data_dir, tmp_path)
    expected = [move_by_cosine(0.01, 0.2, step / 16) for step in range(16)]
    assert series["weight_decay"][:, 2] == pytest.approx(expected)


def test_gradients_that_the_optimizer_is_not_given_do_not_count(data_dir, tmp_path):
    """Those of DINO's prototypes, in the first epoch."""
    case = find_case("DINO")
    method = build(case._replace(arguments=case.arguments | {"frozen_epochs": 1}))
    series, by_hand = fit(method, data_dir, tmp_path)
    norms = series["train/gradient_norm"][:, 2]
    assert all(
        norm < with_prototypes for norm, with_prototypes in zip(norms, by_hand.norms[:8], strict=False)
    )
    assert norms == pytest.approx(by_hand.used, rel=1e-4)
    assert norms[8:] == pytest.approx(by_hand.norms[8:], rel=1e-4)
