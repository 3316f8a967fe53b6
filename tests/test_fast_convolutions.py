"""Convolutions on small maps in bf16: faster than the library's, with the same gradients."""

import copy
import pickle

import pytest
import torch
from torch import nn

from ssl_modules.networks.conv import (
    SmallMapConv2d,
    SmallMapConvolution,
    speed_up_convolutions,
    weight_gradient,
)
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from ssl_modules.simclr import SimCLR


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 2, 0), (7, 2, 3)])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 9)])
def test_weight_gradient_is_that_of_the_convolution(kernel, stride, padding, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, height, width, generator=generator, dtype=torch.float64)
    shape = (5, 4, kernel, kernel)
    grad = torch.nn.functional.conv2d(x, torch.ones(shape, dtype=torch.float64), None, stride, padding)
    grad = torch.randn(grad.shape, generator=generator, dtype=torch.float64)
    expected = torch.nn.grad.conv2d_weight(x, shape, grad, stride, padding)
    torch.testing.assert_close(weight_gradient(x, grad, kernel, stride, padding), expected)


NETWORKS = {
    "one convolution": lambda: nn.Conv2d(3, 32, 3, 2, 1, bias=False),
    "ours": lambda: ResNet(widths=[8, 64], blocks=[1, 1], stem="patch2"),
    "timm's": lambda: Timm("resnet10t"),
}


def set_matrix_units(monkeypatch, present: bool) -> None:
    """Let the CPU have bf16 matrix units, or not."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": present})


def small_map_convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if type(module) is SmallMapConv2d]


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_small_maps_in_bf16_train_as_with_the_library(make, monkeypatch):
    # on maps of a single cell the library's own gradient now and then holds NaN, from memory that it has not written
    side = 64 if make is NETWORKS["timm's"] else 8
    results, calls = [], []
    apply = SmallMapConvolution.apply
    monkeypatch.setattr(SmallMapConvolution, "apply", lambda *args: calls.append(1) or apply(*args))
    for present in (False, True):
        set_matrix_units(monkeypatch, present)
        torch.manual_seed(0)
        network = make().to(memory_format=torch.channels_last)
        speed_up_convolutions(network)
        images = torch.randn(4, 3, side, side, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            y = network(images)
        assert bool(calls) == bool(small_map_convolutions(network)) == present
        y.float().square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()} | {"images": images.grad}
        results.append((y.detach(), gradients))
    (y, gradients), (fast_y, fast_gradients) = results
    assert torch.equal(y, fast_y) and gradients.keys() == fast_gradients.keys()
    for name, gradient in gradients.items():
        assert fast_gradients[name].dtype == torch.float32
        assert (fast_gradients[name] - gradient).norm() <= 0.01 * gradient.norm(), name


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_speeding_up_keeps_state_copies_and_pickles(make, present, monkeypatch):
    set_matrix_units(monkeypatch, present)
    network = make()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    speed_up_convolutions(network)
    speed_up_convolutions(network)
    count_fast = len(small_map_convolutions(network))
    assert bool(count_fast) == present
    for other in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert len(small_map_convolutions(other)) == count_fast
        torch.testing.assert_close(other.state_dict(), state, atol=0, rtol=0)


def test_only_plain_convolutions_are_sped_up(monkeypatch):
    set_matrix_units(monkeypatch, True)
    plain = {"bias": False}
    others = nn.Sequential(
        nn.Conv2d(4, 8, 3),  # with bias
        nn.Conv2d(4, 8, 3, groups=2, **plain),
        nn.Conv2d(4, 8, 3, dilation=2, **plain),
        nn.Conv2d(4, 8, 3, padding="same", **plain),
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect", **plain),
        nn.Conv2d(4, 8, (1, 3), **plain),
        nn.Conv2d(4, 8, 3, stride=(1, 2), **plain),
        nn.Conv2d(4, 8, 3, padding=(0, 1), **plain),
        nn.ConvTranspose2d(4, 8, 3, **plain),
        nn.Conv1d(4, 8, 3, **plain),
    )
    speed_up_convolutions(others)
    assert not small_map_convolutions(others)


def test_torch_compile_takes_sped_up_convolutions(monkeypatch):
    set_matrix_units(monkeypatch, True)
    torch.manual_seed(0)
    network, images = ResNet(widths=[8, 64], blocks=[1, 1], stem="patch2"), torch.randn(4, 3, 8, 8)
    speed_up_convolutions(network)
    gradients = []
    for run in (network, torch.compile(network, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(images).float().square().sum()
        loss.backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for compiled, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, atol=0.01, rtol=0.02)


def test_a_method_speeds_up_its_encoder_at_setup(monkeypatch):
    set_matrix_units(monkeypatch, True)
    encoder = ResNet(widths=[8, 16], blocks=[1, 2])
    SimCLR(encoder=encoder, optimizer=torch.optim.SGD).setup("fit")
    assert len(small_map_convolutions(encoder)) == sum(isinstance(m, nn.Conv2d) for m in encoder.modules())
