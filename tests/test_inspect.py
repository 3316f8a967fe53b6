"""`cli.py inspect`: sizes, receptive fields, parameters and multiply-adds are those of the real network."""

import math
import re

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from model_summary.layer_list import build_network, read_layer_list
from model_summary.receptive_field import FieldTracker, ReceptiveField
from model_summary.summary import Layer, format_summary, trace_layers
from ssl_modules.networks.char_lstm import CharLSTM
from ssl_modules.networks.lab_pair import LabPair
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from ssl_modules.networks.vae import VAEConv
from ssl_modules.networks.vgg import VGG11
from tests.conftest import command_line
from tests.test_house import ROOT

EXERCISE = ROOT / "configs" / "layers" / "coursework.yaml"


def trace_plan(plan: dict) -> list[Layer]:
    layers, shape = build_network(plan)
    return trace_layers(layers, torch.zeros(1, *shape))


def test_the_exercise_without_padding():
    layers = trace_plan(read_layer_list(EXERCISE))
    sizes = [(254, 254), (84, 84), (42, 42), (40, 40), (20, 10)]
    assert [layer.output[1:] for layer in layers[:5]] == sizes
    assert layers[3].receptive_field == ReceptiveField((22, 22), (6, 6))


def test_the_exercise_with_every_convolution_keeping_its_input_size():
    plan = read_layer_list(EXERCISE) | {"padding": "same"}
    plan["layers"] = [{k: v for k, v in layer.items() if k != "stride"} for layer in plan["layers"]]
    layers = trace_plan(plan)
    assert [layer.parameters for layer in layers if layer.parameters] == [2_700, 125_000, 13_500, 614_400]
    assert sum(layer.parameters for layer in layers) == 755_600
    assert [layer.output for layer in layers[:5]] == [
        (100, 256, 256), (50, 256, 256), (50, 128, 128), (30, 128, 128), (30, 64, 32),
    ]  # fmt: skip
    assert layers[0].multiply_adds == 2_700 * 256 * 256


def field_by_gradient(maps, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the pixels that can change the middle cell of random networks' maps."""
    reached = torch.zeros(shape[1:], dtype=torch.bool)
    for seed in range(3):
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        out = maps(image)
        out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
        reached |= image.grad[0].abs().sum(0) > 0
    y, x = reached.nonzero().unbind(1)
    return int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1


@pytest.mark.parametrize(
    "encoder",
    [
        ResNet(widths=[4, 8], blocks=[1, 1]),
        ResNet(widths=[4, 8], blocks=[2, 1], stem="patch2"),
        ResNet(widths=[4, 8], blocks=[1, 1], stem="imagenet"),
        LabPair(widths=[4, 8], blocks=[1, 1]),
        VAEConv(64, width=4, stages=2, residual=True, latent=4),
    ],
    ids=["cifar", "patch2", "imagenet", "lab pair", "vae"],
)
def test_the_receptive_field_is_what_a_gradient_reaches(encoder):
    torch.manual_seed(0)
    for part in encoder.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    encoder.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), FieldTracker(image) as tracker:
        size, _ = tracker.fields[encoder.maps(image)]
    reached_size = field_by_gradient(encoder.maps, (3, 64, 64))
    assert reached_size == size or max(size) >= 64 > 50 <= min(reached_size)  # cut off by the border


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.ConvTranspose2d(2, 3, 3, 1, 1), nn.PixelShuffle(1)]
)
def test_a_decoders_receptive_field_is_what_a_gradient_reaches(layer):
    def maps(image):
        return layer(F.conv2d(image, torch.ones(2, 1, 3, 3), stride=2))

    image = torch.rand(1, 1, 33, 33)
    with torch.no_grad(), FieldTracker(image) as tracker:
        size, _ = tracker.fields[maps(image)]
    assert field_by_gradient(maps, (1, 33, 33)) == size


@pytest.mark.parametrize(
    "encoder, view",
    [
        (ResNet(preset="wide3"), torch.rand(2, 3, 32, 32)),
        (VGG11(in_channels=1, img_size=32), torch.rand(2, 1, 32, 32)),
        (Timm("vit_tiny_patch16_224", img_size=32), torch.rand(2, 3, 32, 32)),
        (CharLSTM(), torch.ones(2, 9, dtype=torch.int64)),
    ],
    ids=["resnet", "vgg", "vit", "lstm"],
)
def test_parameters_add_up_and_nothing_is_left_behind(encoder, view):
    encoder.train()
    hooks = [len(module._forward_hooks) for module in encoder.modules()]
    layers = trace_layers(encoder, view)
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in encoder.parameters())
    assert all(module.training for module in encoder.modules())
    assert hooks == [len(module._forward_hooks) for module in encoder.modules()]
    assert "total" in format_summary(layers, view)


def test_multiply_adds_by_formula():
    layers = {layer.name: layer for layer in trace_layers(ResNet(preset="wide3"), torch.rand(2, 3, 32, 32))}
    assert layers["stem.0"].multiply_adds == 64 * 3 * 2 * 2 * 16 * 16
    assert layers["stages.2.residual.3"].multiply_adds == 256 * 256 * 9 * 4 * 4
    (lstm,) = trace_layers(CharLSTM(), torch.ones(3, 7, dtype=torch.int64))
    assert lstm.multiply_adds == 7 * 4 * 128 * (128 + 128)


def test_a_pooled_map_has_the_whole_image_as_its_field():
    (layer,) = trace_layers(nn.Sequential(nn.AdaptiveAvgPool2d(1)), torch.rand(1, 2, 8, 8))
    assert layer.receptive_field.size == (math.inf, math.inf)


@pytest.mark.parametrize(
    "plan, named",
    [
        ({"layers": []}, "keys are input, layers"),
        ({"input": [3, 8], "layers": []}, "height, width"),
        ({"input": [3, 8, 8], "layers": [{"conv": 4}]}, "layer 1.*kernel"),
        ({"input": [3, 8, 8], "layers": [{"convolve": 4}]}, "layer 1.*it is a conv"),
        ({"input": [3, 8, 8], "layers": [{"conv": 4, "kernel": 9}]}, "layer 1.*does not fit"),
        ({"input": [3, 8, 8], "padding": "some", "layers": []}, "same or none"),
        ({"input": [3, "a", 8], "layers": []}, "height, width"),
        ({"input": [3, 8, 8], "layers": None}, "give a list"),
        ({"input": [3, 8, 8], "layers": ["conv"]}, "give a list"),
        ({"input": [3, 8, 8], "layers": [{"conv": 4, "kernel": "big"}]}, "layer 1.*does not fit"),
        ({"input": [3, 8, 8], "layers": [{"conv": -1, "kernel": 3}]}, "layer 1.*does not fit"),
        ({"input": [3, 8, 8], "layers": [{"linear": 4}, {"pool": 2}]}, "layer 2.*does not fit"),
        ({"input": [3, 8, 8], "padding": "same", "layers": [{"conv": 4, "kernel": 2}]}, "odd kernel"),
    ],
)
def test_a_wrong_list_of_layers_is_refused_in_one_line(plan, named, tmp_path, capsys):

    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    assert command_line("inspect", "--layers", file) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(named, line)


def test_a_config_is_printed_layer_by_layer_and_leaves_no_run_folder(tmp_path, capsys, untouched_process):
    config = ROOT / "configs" / "simclr_digits.yaml"
    assert command_line("inspect", "--config", config, "--runs_dir", tmp_path / "runs") == 0
    out = capsys.readouterr().out
    assert "SimCLR on Digits; multiply-adds of one example, 2 views" in out
    assert "encoder.stem.0" in out and "projector.3" in out and "total" in out
    assert not (tmp_path / "runs").exists()
