"""The receptive fields that `inspect` prints are the pixels that a gradient reaches, or there is no figure."""

import itertools
import math
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_summary.receptive_field import FieldTracker, ReceptiveField
from model_summary.summary import format_summary, trace_layers
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.pooled_resnet import PooledResNet
from ssl_modules.networks.residual_autoencoder import ResidualEncoder
from ssl_modules.networks.timm_model import Timm
from ssl_modules.networks.vae import VAEConv
from ssl_modules.networks.vgg import VGG11
from ssl_modules.networks.vit import ViT

SIDE = 60


def make_positive(network: nn.Module) -> nn.Module:
    """Draw weights that are all positive, so that no two paths cancel; in float64 no path underflows."""
    for parameter in network.parameters():
        parameter.data.uniform_(0.1, 0.6)
    return network.double().eval()


def sides_by_gradient(network, image: Tensor) -> tuple[int, ...]:
    """Measure the largest extent of the pixels that can change a cell, of those near the map's middle."""
    image.requires_grad_()
    out = network(image)
    sides = [0] * (image.ndim - 2)
    middle = [range(max(0, side // 2 - 6), min(side, side // 2 + 7)) for side in out.shape[2:]]
    for cell in itertools.product(*middle):
        (gradient,) = torch.autograd.grad(out[(0, slice(None), *cell)].sum(), image, retain_graph=True)
        reached = gradient[0].abs().sum(0).nonzero()
        for axis in range(len(sides) if len(reached) else 0):
            sides[axis] = max(sides[axis], int(reached[:, axis].max() - reached[:, axis].min()) + 1)
    return tuple(sides)


def draw_image() -> Tensor:
    return torch.rand(1, 2, SIDE, SIDE, dtype=torch.float64)


def track(network, image: Tensor) -> tuple[ReceptiveField, str]:
    """Follow the field of the network's output; also returns why it is not known."""
    with torch.no_grad(), FieldTracker(image) as tracker:
        out = network(image)
    return tracker.fields[out], tracker.reasons[out]


def draw_pair(rng: random.Random, low: int, high: int) -> tuple[int, int]:
    return rng.randint(low, high), rng.randint(low, high)


def draw_layer(rng: random.Random) -> nn.Module:
    """Draw a layer from 2 channels to 2; poolings average, for the largest cell alone has a gradient."""
    kernel, stride, dilation = draw_pair(rng, 1, 4), draw_pair(rng, 1, 3), draw_pair(rng, 1, 3)
    padding = tuple(max(a, b) - 1 for a, b in zip(stride, dilation, strict=True))
    layers = [
        nn.Conv2d(2, 2, kernel, stride, draw_pair(rng, 0, 2), dilation),
        nn.Conv2d(2, 2, kernel, stride, dilation=dilation, groups=2),
        nn.Conv2d(2, 2, (3, 5), padding="same", dilation=dilation),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode=rng.choice(["reflect", "replicate"])),
        nn.ConvTranspose2d(2, 2, kernel, stride, 0, padding, dilation=dilation),
        nn.ConvTranspose2d(2, 2, kernel, stride, 1, groups=2),
        nn.AvgPool2d(draw_pair(rng, 2, 3), stride, 1, ceil_mode=rng.random() < 0.5),
        nn.Upsample(scale_factor=rng.choice([2, 3])),
        nn.Upsample(scale_factor=rng.choice([2, 4]), mode=rng.choice(["bilinear", "bicubic"])),
        nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)),
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 2, 1)),
    ]
    return rng.choice(layers)


def draw_network(rng: random.Random, image: Tensor) -> nn.Module:
    """Draw one to four layers that fit the image, until their map has a middle and is not too large."""
    while True:
        network = make_positive(nn.Sequential(*(draw_layer(rng) for _ in range(rng.randint(1, 4)))))
        try:
            out = network(image)
        except RuntimeError:  # a map smaller than a kernel, or of an odd side
            continue
        if min(out.shape[2:]) > 2 and max(out.shape[2:]) <= 250:
            return network


@pytest.mark.parametrize("seed", range(60))
def test_stacks_of_layers_reach_what_a_gradient_reaches(seed):
    torch.manual_seed(seed)
    image = draw_image()
    network = draw_network(random.Random(seed), image)
    (size, _), reason = track(network, image)
    sides = sides_by_gradient(network, image)
    assert not reason
    # the image's border cuts off what is larger
    assert all(a == b or a > SIDE // 2 - 3 for a, b in zip(size, sides, strict=True)), (size, sides)


class Sum(nn.Module):
    def __init__(self, *paths: nn.Module):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        out = self.paths[0](x)
        for path in self.paths[1:]:
            out += path(x)
        return out


CASES = {
    "dilated transposed": (
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.ConvTranspose2d(2, 2, 3, dilation=4)),
        (11, 11),
    ),
    "stacked transposed": (
        nn.Sequential(
            *(nn.Conv2d(2, 2, 4, 2, 1) for _ in range(2)),
            *(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(2)),
            nn.Conv2d(2, 2, 3, padding=1),
        ),
        (18, 18),
    ),
    "two paths": (Sum(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 5, padding=2)), (5, 5)),
    "paths of two strides": (
        Sum(
            nn.Sequential(nn.Conv2d(2, 2, 2, 2), nn.ConvTranspose2d(2, 2, 2, 2)),
            nn.Conv2d(2, 2, 3, padding=1),
        ),
        (3, 3),
    ),
    "unshuffled": (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 2, 2)), (4, 4)),
    "joined channels": (
        lambda x: torch.cat([F.avg_pool2d(x, (5, 1), 1, (2, 0)), F.avg_pool2d(x, (1, 3), 1, (0, 1))], 1),
        (5, 3),
    ),
    "channels last": (
        lambda x: F.avg_pool2d(F.layer_norm(x.permute(0, 2, 3, 1), (2,)).permute(0, 3, 1, 2), 3),
        (3, 3),
    ),
    "cut out": (lambda x: F.avg_pool2d(x[:, :, ::2, 1::2], 2, 1), (3, 3)),
    "uneven pooling": (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d((7, 5))), (12, 15)),
    "corners": (nn.Upsample(size=(119, 119), mode="bilinear", align_corners=True), (2, 2)),
    "rows flattened and back": (
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(2), nn.Unflatten(2, (58, 58)), nn.Conv2d(2, 2, 3)),
        (5, 5),
    ),
    "windows as products": (
        lambda x: (torch.ones(1, 3, 18).to(x) @ F.unfold(x, 3)).view(1, 3, 58, 58),
        (3, 3),
    ),
    "max pooling, dilated": (nn.MaxPool2d(3, 1, 1, 2), (5, 5)),
    "mean of a part": (lambda x: F.avg_pool2d(x[:, :, 20:40, 20:40], 3).mean((2, 3), keepdim=True), (18, 18)),
    "one axis": (lambda x: x.softmax(3), (1, math.inf)),
    "excitation": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), (math.inf, math.inf)),
    "group norm": (nn.GroupNorm(1, 2), (math.inf, math.inf)),
    "attention": (
        lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT[:, None]] * 3),
        (math.inf, math.inf),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_field_of_each_kind_of_operation(case):
    network, expected = CASES[case]
    if isinstance(network, nn.Module):
        make_positive(network)
    (size, _), reason = track(network, draw_image())
    assert (size, reason) == (expected, "")
    if case not in (
        "max pooling, dilated",
        "attention",
    ):  # one cell of a window has a gradient; maps are not images
        sides = sides_by_gradient(network, draw_image())
        assert tuple(math.inf if side == SIDE else side for side in sides) == expected


def paste(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :, 2:] = x[:, :, :-2]
    return F.avg_pool2d(out, 3, 1)


ORDER = torch.arange(SIDE).flip(0)[:, None].expand(1, 2, SIDE, SIDE)
UNKNOWN = {
    "flip": lambda x: F.avg_pool2d(x, 3).flip(2),
    "joining turned images": lambda x: torch.cat([x, x.rot90(1, (2, 3))]).mean(0, keepdim=True),
    "roll": lambda x: x.roll(1, 2),
    "cumsum": lambda x: x.cumsum(3),
    "_fft_c2c": lambda x: torch.fft.fft2(x).real,
    "grid_sampler_2d": lambda x: F.grid_sample(x, x.new_zeros(1, 9, 9, 2), align_corners=False),
    "max_unpool2d": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "fractional_max_pool2d": nn.FractionalMaxPool2d(2, output_size=(20, 20)),
    "writing to a part of a tensor": paste,
    "taking a part of joined maps": lambda x: torch.cat([F.avg_pool2d(x, 3, 1, 1), x], 1)[:, 2:],
    "joining parts of an image": lambda x: torch.stack(x.unbind(2), 2),
    "reshaping across rows, columns or parts": lambda x: x.unflatten(2, (15, 4)).mean(3),
    "parts of a map that meet in one cell": lambda x: x + x.gather(2, ORDER),
    "parts of a map that meet in one cell ": lambda x: x + x.flip(2),
    "attention with a mask": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
}


@pytest.mark.parametrize("reason", UNKNOWN)
def test_an_operation_that_cannot_be_followed_gets_no_figure(reason):
    (size, jump), why = track(UNKNOWN[reason], draw_image())
    assert all(map(math.isnan, (*size, *jump)))
    assert why == reason.strip()


def test_a_field_that_is_not_known_is_printed_as_a_question_mark_with_its_reason():
    class Rolled(nn.Module):
        def forward(self, x):
            return x.roll(1, 2)

    view = torch.rand(1, 2, 8, 8)
    network = nn.Sequential(Rolled(), nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1))
    *_, conv, pool, _, note = format_summary(trace_layers(network, view), view).splitlines()
    assert conv.split()[5:7] == ["?", "?"] and "?" in pool
    assert note == "? not known, because of roll"


@pytest.mark.parametrize(
    "encoder, side",
    [
        (ConvEncoder(64), 64), (ResidualEncoder(64), 64), (PooledResNet(), 64), (VGG11(img_size=32, in_channels=3), 32),
        (VAEConv(64, width=4, stages=3, residual=True, latent=4), 64), (ViT(), 32),
        (Timm("vit_tiny_patch16_224", img_size=32), 32),
    ],
)  # fmt: skip
def test_all_fields_of_our_encoders_are_known(encoder, side):
    layers = trace_layers(encoder, torch.rand(2, 3, side, side))
    assert not any(layer.unknown for layer in layers)
    assert layers[0].receptive_field.size == layers[0].kernel
    assert (
        layers[-1].receptive_field is None
        or layers[-1].receptive_field.size == (math.inf, math.inf)
        or side == 64
    )


def test_turned_images_are_images_of_their_own():
    copies, _ = track(
        lambda x: F.avg_pool2d(torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)]), 3), draw_image()
    )
    assert copies == ReceptiveField((3, 3), (3, 3))


@pytest.mark.parametrize("dims", [1, 3])
def test_signals_and_volumes_have_one_axis_or_three(dims):
    conv, pool = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "MaxPool"))
    view = torch.rand(1, 3, *[16] * dims)
    layers = trace_layers(nn.Sequential(conv(3, 4, 3, 2, dilation=2), pool(2)), view)
    assert [layer.receptive_field.size for layer in layers] == [(5,) * dims, (7,) * dims]
    assert [layer.kernel for layer in layers] == [(3,) * dims, (2,) * dims]
