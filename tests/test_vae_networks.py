"""The VAE's three networks are those that the course work describes."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ssl_modules.networks.vae import VAEMLP, ResidualBlock, VAEConv
from tests.draws import make_generator
from tests.errors import refused_in_one_line
from tests.methods import count_parameters

NETWORKS = {
    "mlp": lambda **options: VAEMLP(64, **options),
    "conv": lambda **options: VAEConv(64, **options),
    "residual": lambda **options: VAEConv(64, residual=True, **options),
}


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_becomes_512_numbers_and_an_image_again(name, in_channels, conditions):
    encoder = NETWORKS[name](in_channels=in_channels).eval()
    images = torch.rand(2, in_channels, 64, 64, generator=make_generator())
    mean, log_variance = encoder.posterior(images)
    assert mean.shape == log_variance.shape == (2, 512) and encoder.dim == 512 and not encoder.pooled
    assert torch.equal(encoder(images), mean) and not torch.equal(mean, log_variance)
    z = torch.cat([mean, torch.zeros(2, conditions)], 1)
    assert encoder.decoder(conditions).eval()(z).shape == images.shape


def test_the_mlp_has_512_hidden_units_both_ways():
    encoder, pixels = VAEMLP(64), 3 * 64 * 64
    assert count_parameters(encoder) == pixels * 512 + 512 + 512 * 1024 + 1024
    assert count_parameters(encoder.decoder()) == 512 * 512 + 512 + 512 * pixels + pixels


@pytest.mark.parametrize("residual", [False, True])
def test_five_convolutions_4x4_double_32_filters_and_back(residual):
    encoder = VAEConv(64, residual=residual)
    decoder = encoder.decoder()
    for net, kind, widths in [
        (encoder, nn.Conv2d, [3, 32, 64, 128, 256, 512]),
        (decoder, nn.ConvTranspose2d, [512, 256, 128, 64, 32, 3]),
    ]:
        layers = [m for m in net.modules() if isinstance(m, kind) and m.kernel_size == (4, 4)]
        assert [m.in_channels for m in layers] == widths[:-1]
        assert [m.out_channels for m in layers] == widths[1:]
        assert all((m.stride, m.padding) == ((2, 2), (1, 1)) for m in layers)
        blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
        assert len(blocks) == (5 if residual else 0)
        slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
        assert len(slopes) == (15 if residual else 5) and set(slopes) == {0.2}
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == len(slopes)
    assert encoder.maps(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_parameters_of_the_convolutions_by_formula():
    widths = [3, 32, 64, 128, 256, 512]
    kernels = sum(16 * a * b for a, b in pairwise(widths))
    norms, blocks = 2 * sum(widths[1:]), sum(2 * 9 * c * c + 4 * c for c in widths[1:])
    encoder = kernels + norms + 4 * 512 * 1024 + 1024
    decoder = 512 * 2048 + kernels + norms + 3
    assert (count_parameters(VAEConv(64)), count_parameters(VAEConv(64).decoder())) == (encoder, decoder)
    deep = VAEConv(64, residual=True)
    assert (count_parameters(deep), count_parameters(deep.decoder())) == (encoder + blocks, decoder + blocks)


def test_a_residual_block_starts_near_the_identity():
    block = ResidualBlock(8, "batch")
    assert block.residual[-1].weight.unique().tolist() == pytest.approx([0.1])  # near it from the start
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 8, 4, 4, generator=make_generator())
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("size, stages", [(28, 5), (48, 5), (16, 5), (31, 1)])
def test_a_side_that_does_not_halve_evenly_is_refused_in_one_line(size, stages):
    with refused_in_one_line("VAEConv", str(size)):
        VAEConv(size, stages=stages)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (3, 16, 32)])
@pytest.mark.parametrize("encoder", [VAEMLP(16), VAEConv(16, stages=2)], ids=["mlp", "conv"])
def test_images_of_another_shape_are_refused_in_one_line(encoder, shape):
    with refused_in_one_line("3x16x16", "x".join(map(str, shape))):
        encoder(torch.zeros(2, *shape))
