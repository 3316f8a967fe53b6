"""Encoders: the width they say, pooled maps, known numbers of parameters and networks that others publish."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from ssl_modules.networks.char_lstm import CharLSTM
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.lab_pair import LabPair
from ssl_modules.networks.mlp import mlp
from ssl_modules.networks.pooled_resnet import PooledResNet
from ssl_modules.networks.residual_autoencoder import ResidualEncoder
from ssl_modules.networks.resnet import PRESETS, ResNet
from ssl_modules.networks.timm_model import Timm
from ssl_modules.networks.vae import VAEMLP, VAEConv
from ssl_modules.networks.vgg import VGG11
from tests.errors import refused_in_one_line
from tests.methods import count_parameters

TINY = {"widths": [8, 16], "blocks": [1, 2]}
ENCODERS = {  # name: (constructor, its arguments, side of the images or None for text, dim)
    "wide3": (ResNet, {"preset": "wide3"}, 16, 256),
    "resnet20": (ResNet, {"preset": "resnet20"}, 8, 64),
    "resnet18": (ResNet, {"preset": "resnet18"}, 8, 512),
    "resnet50": (ResNet, {"preset": "resnet50"}, 8, 2048),
    "cifar stem": (ResNet, TINY | {"stem": "cifar"}, 9, 16),
    "patch2 stem": (ResNet, TINY | {"stem": "patch2"}, 16, 16),
    "imagenet stem": (ResNet, TINY | {"stem": "imagenet"}, 33, 16),
    "bottlenecks": (ResNet, TINY | {"preset": "resnet50"}, 8, 64),
    "group norm": (ResNet, TINY | {"norm": "group"}, 16, 16),
    "one channel": (ResNet, TINY | {"in_channels": 1}, 16, 16),
    "pooled": (PooledResNet, {}, 17, 256),
    "pooled, group norm": (PooledResNet, {"widths": (8, 24), "stem": 8, "norm": "group"}, 8, 24),
    "pooled, one channel": (PooledResNet, {"widths": (8, 24), "stem": 4, "in_channels": 1}, 8, 24),
    "conv autoencoder": (ConvEncoder, {"size": 16, "widths": (8, 16)}, 16, 256),
    "residual autoencoder": (ResidualEncoder, {"size": 16, "widths": (8, 16), "code": 24}, 16, 24),
    "lab pair": (LabPair, TINY, 16, 32),
    "lab pair, half width": (LabPair, {"preset": "wide3", "half_width": True}, 16, 256),
    "timm resnet10t": (Timm, {"name": "resnet10t"}, 32, 512),
    "timm resnet18, one channel": (Timm, {"name": "resnet18", "in_channels": 1}, 32, 512),
    "timm convnext_atto": (Timm, {"name": "convnext_atto"}, 32, 320),
    "timm mobilenetv3": (Timm, {"name": "mobilenetv3_small_050"}, 32, 1024),
    "timm vit_tiny": (Timm, {"name": "vit_tiny_patch16_224", "img_size": 32}, 32, 192),
    "vae mlp": (VAEMLP, {"size": 16, "hidden": 32, "latent": 24}, 16, 24),
    "vae convolutions": (VAEConv, {"size": 32, "in_channels": 1, "width": 8}, 32, 512),
    "vae residual": (VAEConv, {"size": 16, "width": 8, "stages": 3, "residual": True, "latent": 24}, 16, 24),
    "vgg11": (VGG11, {}, 32, 512),
    "vgg11 as in the paper": (VGG11, {"batch_norm": False, "dropout": 0.5}, 32, 512),
    "vgg11, one channel, 64 pixels": (VGG11, {"in_channels": 1, "img_size": 64, "hidden_dim": 24}, 64, 24),
    "character lstm": (CharLSTM, {}, None, 128),
    "character lstm, maximum": (CharLSTM, {"hidden_dim": 24, "pool": "max"}, None, 24),
}
MUST_BE_POOLED = [
    name
    for name, (make, *_) in ENCODERS.items()
    if make in (ResNet, PooledResNet, LabPair) or "resnet" in name
]


@pytest.fixture(params=ENCODERS)
def encoder(request):
    """(encoder in eval mode, two images or texts for it, the dim that it should have)"""
    make, arguments, side, dim = ENCODERS[request.param]
    torch.manual_seed(0)
    encoder = make(**arguments).eval()
    if side is None:
        return encoder, torch.randint(1, 128, (2, 30)), dim
    images = torch.randn(2, arguments.get("in_channels", 3), side, side)
    assert encoder.pooled or request.param not in MUST_BE_POOLED
    return encoder, images, dim


def test_dim_is_the_width_of_the_features(encoder):
    encoder, images, dim = encoder
    with torch.no_grad():
        features = encoder(images)
    assert encoder.dim == dim and features.shape == (2, dim)
    assert features.isfinite().all() and features.std() > 0


def test_pooled_features_are_the_mean_of_the_maps(encoder):
    encoder, images, dim = encoder
    assert isinstance(encoder.pooled, bool)
    if not encoder.pooled:
        pytest.skip("not pooled")
    with torch.no_grad():
        maps = encoder.maps(images)
        assert maps.ndim == 4 and maps.shape[:2] == (2, dim)
        torch.testing.assert_close(encoder(images), maps.mean((2, 3)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stem, side, expected", [("cifar", 32, 16), ("patch2", 32, 8), ("imagenet", 64, 8)])
def test_stems_keep_halve_or_quarter_the_side_and_stages_halve_it(stem, side, expected):
    maps = ResNet(**TINY, stem=stem).eval().maps(torch.zeros(1, 3, side, side))
    assert maps.shape == (1, 16, expected, expected)


def resnet_parameters(widths, blocks, bottleneck, stem):
    """Parameters of a ResNet: k k c_in c_out a convolution, 2 c_out its norm, a projection where shapes change."""

    def conv(kernel, c_in, c_out):
        return kernel * kernel * c_in * c_out + 2 * c_out

    total, channels = conv({"cifar": 3, "patch2": 2, "imagenet": 7}[stem], 3, widths[0]), widths[0]
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(depth):
            path = [(3, width), (3, width)] if not bottleneck else [(1, width), (3, width), (1, 4 * width)]
            sides = pairwise([channels, *(c_out for _, c_out in path)])
            total += sum(conv(k, *side) for (k, _), side in zip(path, sides, strict=True))
            if (stage and block == 0) or channels != path[-1][1]:
                total += conv(1, channels, path[-1][1])
            channels = path[-1][1]
    return total


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_by_formula(preset):
    assert count_parameters(ResNet(preset)) == resnet_parameters(*PRESETS[preset])


@pytest.mark.parametrize(
    "preset, expected", [("resnet20", 271_824), ("resnet18", 11_168_832), ("resnet50", 23_500_352)]
)
def test_known_numbers_of_parameters(preset, expected):
    """ResNet-20: the paper's 0.27 M (table 6), 269,722 less the classifier's 650, and two projections of 2,752.

    ResNet-18 and 50: torchvision's, less the classifier and what a 7x7 stem has more than a 3x3 one.
    """
    assert count_parameters(ResNet(preset)) == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_with_the_imagenet_stem_is_torchvisions(name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)()
    theirs.fc = nn.Identity()
    ours = ResNet(name, stem="imagenet")
    names, values = list(ours.state_dict()), list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(names, values, strict=True)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(images), theirs(images), atol=1e-4, rtol=1e-4
        )  # training: batch norm too
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-4, rtol=1e-4)


def test_a_pooled_resnet_computes_its_formula():
    torch.manual_seed(0)
    encoder, x = PooledResNet(widths=(8, 12), stem=4), torch.randn(3, 3, 9, 9)
    assert count_parameters(encoder) == sum(
        9 * a * b + 2 * b for a, b in [(3, 4), (4, 8), (8, 8), (8, 12), (12, 12)]
    )
    convs = [module.weight for module in encoder.modules() if isinstance(module, nn.Conv2d)]

    def norm(maps):  # batch norm as initialized
        return (maps - maps.mean((0, 2, 3), keepdim=True)) / (
            maps.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
        ).sqrt()

    expected = norm(F.conv2d(x, convs[0], padding=1)).relu()
    for down, branch in (convs[1:3], convs[3:5]):
        expected = norm(F.max_pool2d(F.conv2d(expected, down, padding=1), 2)).relu()
        expected = expected + norm(F.conv2d(expected, branch, padding=1)).relu()
    assert expected.shape == (3, 12, 2, 2)
    torch.testing.assert_close(encoder.maps(x), expected, atol=1e-5, rtol=1e-4)


def test_arguments_override_the_preset_one_by_one():
    encoder = ResNet("resnet20", blocks=[1, 1, 1], stem="patch2", in_channels=1)
    assert encoder.dim == 64 and len(encoder.stages) == 3
    assert encoder.stem[0].weight.shape == (16, 1, 2, 2)
    assert ResNet("resnet20", widths=[8, 8, 24]).dim == 24


def test_with_group_norm_images_do_not_influence_each_other():
    torch.manual_seed(0)
    encoder, images = ResNet(**TINY, norm="group").train(), torch.randn(4, 3, 16, 16)
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), alone, atol=1e-5, rtol=1e-4)
    assert not any("running" in name for name in encoder.state_dict())
    norms = [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    assert norms and all(norm.num_channels / norm.num_groups == 8 for norm in norms)


def test_with_batch_norm_images_influence_each_other_in_training():
    torch.manual_seed(0)
    encoder, images = ResNet(**TINY).train(), torch.randn(4, 3, 16, 16)
    assert not torch.allclose(encoder(images)[:1], encoder(images[:1]), atol=1e-2)
    encoder.eval()
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "network, arguments",
    [
        (PooledResNet, {"widths": (8, 0)}),
        (PooledResNet, {"stem": 0}),
        (PooledResNet, {"widths": (8, 28), "norm": "group"}),
        (ResNet, {"widths": [8, 16], "blocks": [1]}),
        (ResNet, {"widths": [8, 16]}),
        (ResNet, {"blocks": [2, 2]}),
        (ResNet, {"widths": [], "blocks": [1]}),
        (ResNet, {"widths": [0, 8], "blocks": [1, 1]}),
        (ResNet, {"widths": [8, -8], "blocks": [1, 1]}),
        (ResNet, {"widths": [8, 28], "blocks": [1, 1], "norm": "group"}),
        (Timm, {"name": "resnet_18"}),
        *((VGG11, {"img_size": size}) for size in (0, -32, 16, 28, 33, 48)),
    ],
    ids=str,
)
def test_arguments_of_no_network_are_refused_in_one_line(network, arguments):
    named = {Timm: ["resnet18"], VGG11: ["VGG11", "32"]}.get(network, [network.__name__])
    with refused_in_one_line(*named):
        network(**arguments)


class Swinlike(torch.nn.Module):
    output_fmt = "NHWC"

    def forward_features(self, x):
        return x.permute(0, 2, 3, 1)


def test_maps_of_timm_have_channels_first():
    encoder, view = Timm("test_resnet"), torch.rand(2, 3, 4, 5)
    encoder.model = Swinlike()
    assert torch.equal(encoder.maps(view), view)


def test_timm_has_no_classifier():
    model = Timm("resnet18")
    assert count_parameters(model) == 11_689_512 - 513_000  # torchvision's, less its classifier


def test_mlp_has_norm_and_relu_between_and_nothing_after():
    kinds = [type(layer) for layer in mlp(5, 4, 3, 2)]
    between = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*between, *between, nn.Linear]
    assert mlp(5, 2)(torch.zeros(3, 5)).shape == (3, 2) and len(mlp(5, 2)) == 1
    assert count_parameters(mlp(5, 4, 3)) == 5 * 4 + 2 * 4 + 4 * 3


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg11_is_torchvisions_convolutions_and_two_hidden_layers(batch_norm):
    """Its parameters less the classifier's, and with batch norm less the biases of the convolutions before it."""
    theirs = torchvision.models.vgg11_bn if batch_norm else torchvision.models.vgg11
    with torch.device("meta"):
        ours, theirs = VGG11(img_size=224, hidden_dim=4096, batch_norm=batch_norm), theirs()
    assert count_parameters(theirs) - count_parameters(ours) == 4096 * 1000 + 1000 + 2752 * batch_norm
    assert sum(isinstance(m, nn.Conv2d) for m in ours.modules()) == 8
    assert [m.out_features for m in ours.modules() if isinstance(m, nn.Linear)] == [4096, 4096]


def test_vgg11_computes_what_torchvisions_does():
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11().features
    ours = VGG11(batch_norm=False).eval()
    names, values = list(ours.convolutions.state_dict()), list(theirs.state_dict().values())
    ours.convolutions.load_state_dict(dict(zip(names, values, strict=True)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = ours.maps(images)
        assert maps.shape == (2, 512, 1, 1)
        torch.testing.assert_close(maps, theirs(images), atol=1e-5, rtol=1e-4)
        first, _, _, second, _, _ = ours.hidden
        expected = second(first(maps.flatten(1)).relu()).relu()
        torch.testing.assert_close(ours(images), expected)


def test_vgg11_without_batch_norm_starts_with_large_features():
    """Without an initialization for ReLU they would shrink by hundreds, and training would not start."""
    torch.manual_seed(0)
    features = VGG11(batch_norm=False)(torch.randn(8, 3, 32, 32))
    assert 0.1 < features.square().mean().sqrt() < 10


def test_vgg11_drops_half_of_both_hidden_layers_in_training_only():
    torch.manual_seed(0)
    encoder, images = VGG11(dropout=0.5), torch.randn(4, 3, 32, 32)
    assert [m.p for m in encoder.hidden if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert not torch.equal(encoder(images), encoder(images))
    encoder.eval()
    assert torch.equal(encoder(images), encoder(images))


@pytest.mark.parametrize("height, width", [(28, 28), (33, 33), (16, 16), (64, 64), (32, 64)])
def test_vgg11_refuses_images_of_another_size_in_one_line(height, width):
    with refused_in_one_line(f"{height}x{width}", "32x32"):
        VGG11()(torch.zeros(1, 3, height, width))
