"""Large batches in parts: the gradients of the whole batch, by the activations of a part at a time."""

import pytest
import torch
from torch import Tensor, nn

from common.batch import Batch, BatchKey
from ssl_modules import micro_batch
from ssl_modules.base import SSLModule
from ssl_modules.simclr import SimCLR
from tests.losses import draw_normal
from tests.methods import Case, build, small_resnet, train
from tests.test_methods import tiny

PARTS = 5  # of 12 images: two of five and one of two


def read_gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def run_step(module: SSLModule, batch: Batch) -> Tensor:
    """The loss of a step that went back, with gradients left in the module."""
    torch.manual_seed(3)
    loss = module.training_step(batch, 0)["loss"]
    loss.backward()
    return loss.detach()


def assert_same_step(ours: SSLModule, expected: SSLModule, batch: Batch, **tolerance: float) -> None:
    losses = run_step(ours, batch), run_step(expected, batch)
    torch.testing.assert_close(*losses, **tolerance)
    torch.testing.assert_close(read_gradients(ours), read_gradients(expected), **tolerance)


def test_parts_give_the_gradients_of_the_whole_batch(case, batch):
    in_parts, at_once = build(case, "group", micro_batch=PARTS), build(case, "group")
    assert_same_step(in_parts, at_once, batch, atol=2e-4, rtol=2e-4)


class Dropped(nn.Module):
    """An encoder with dropout and batch norm."""

    pooled = False

    def __init__(self):
        super().__init__()
        self.encoder, self.dropout = small_resnet("batch"), nn.Dropout(0.5)
        self.dim = self.encoder.dim

    def forward(self, view: Tensor) -> Tensor:
        return self.dropout(self.encoder(view))


def make_case(size: int | None) -> tuple[SSLModule, Batch]:
    case = Case(SimCLR, {"hidden_dim": 16, "out_dim": 8}, lambda norm: Dropped(), sizes=(16, 16))
    views = [draw_normal(12, 3, 16, 16, seed=seed) for seed in range(2)]
    return build(case, micro_batch=size), Batch(
        views, torch.zeros(12), torch.arange(12), BatchKey.single(1, 12)
    )


def test_the_second_pass_draws_what_the_first_did_and_leaves_statistics(monkeypatch):
    """Against parts whose activations are all kept."""
    in_parts, batch = make_case(PARTS)
    torch.manual_seed(3)
    loss = run_step(in_parts, batch)
    kept, _ = make_case(PARTS)
    monkeypatch.setattr(micro_batch, "checkpoint", lambda call, *inputs, **options: call(*inputs))
    assert torch.equal(run_step(kept, batch), loss)
    torch.testing.assert_close(read_gradients(in_parts), read_gradients(kept), atol=1e-6, rtol=1e-5)
    for name, value in kept.state_dict().items():
        assert torch.equal(in_parts.state_dict()[name], value), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_second_pass_is_in_the_precision_of_the_first(dtype):
    (in_parts, batch), (at_once, _) = make_case(PARTS), make_case(12)
    in_parts.encoder.dropout.p = at_once.encoder.dropout.p = 0
    for method in (in_parts, at_once):
        method.eval()  # batch norm sees parts alone
        with torch.autocast("cpu", dtype=dtype):
            method.training_step(batch, 0)["loss"].backward()
    torch.testing.assert_close(read_gradients(in_parts), read_gradients(at_once), atol=0.02, rtol=0.05)


class CountSaved:
    """How many numbers are kept for the way back, at most."""

    def __init__(self):
        self.numbers = 0

    def pack(self, x: Tensor) -> Tensor:
        self.numbers += x.numel()
        return x

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda x: x)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


def test_the_activations_of_parts_are_not_kept():
    numbers = []
    for size in (None, PARTS):
        method, batch = make_case(size)
        with CountSaved() as saved:
            method.training_step(batch, 0)
        numbers.append(saved.numbers)
    assert numbers[1] < numbers[0] / 5


def test_a_run_in_parts_goes_on_as_one_at_once(data_dir, tmp_path):
    """With accumulation, a schedule, and the hooks of a Trainer."""
    case = Case(SimCLR, {"hidden_dim": 16, "out_dim": 8}, sizes=(16, 16))
    weights = []
    for size in (None, 10):
        method = build(
            case, "group", micro_batch=size, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.05)
        )
        train(method, tiny(data_dir, case), tmp_path, max_epochs=2, accumulate_grad_batches=2)
        weights.append(method.state_dict())
    torch.testing.assert_close(weights[1], weights[0], atol=1e-4, rtol=1e-4)
