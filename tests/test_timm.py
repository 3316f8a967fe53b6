"""timm's networks as encoders: its numbers and names unchanged, maps of all kinds, options, layers, attention."""

import pytest
import timm
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from timm.models import group_parameters
from timm.utils import AttentionExtract

from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from tests.test_vit import small_timm


@pytest.mark.parametrize("name, size, side", [("vit_tiny_patch16_224", 32, 32), ("test_vit", None, 160)])
def test_at_the_native_size_timms_numbers_and_names_are_unchanged(name, size, side):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0, **({} if size is None else {"img_size": size})).eval()
    torch.manual_seed(0)
    ours, images = Timm(name, img_size=size).eval(), torch.rand(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert list(ours.state_dict()) == [f"model.{name}" for name in theirs.state_dict()]


def test_a_network_without_tokens_has_none_and_timms_weights():
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=0).eval()
    torch.manual_seed(0)
    ours, view = Timm("resnet18").eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(view), theirs(view))
        torch.testing.assert_close(ours.maps(view).mean((2, 3)), ours(view))
    assert ours.pooled and not hasattr(ours, "encode_tokens") and not hasattr(ours, "attention")
    assert ours.no_weight_decay() == set()
    layers = group_parameters(ours, ours.group_matcher(), reverse=True)
    assert (
        layers["model.conv1.weight"]
        == 0
        < layers["model.layer1.0.conv1.weight"]
        < layers["model.layer4.1.bn2.bias"]
    )


@pytest.mark.parametrize("name", ["test_byobnet", "test_mambaout", "test_vit4", "gmixer_12_224"])
def test_maps_of_other_kinds_have_height_and_width(name):
    if not timm.is_model(name):
        pytest.skip("this timm has no such model")
    encoder = Timm(name).eval()
    side = encoder.model.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        maps = encoder.maps(torch.rand(1, 3, side, side))
    assert maps.ndim == 4 and maps.shape[2] == maps.shape[3] > 1


def test_options_go_to_timm():
    encoder = Timm("vit_tiny_patch16_224", img_size=32, in_channels=5, options={"patch_size": 8, "depth": 2})
    assert len(encoder.model.blocks) == 2 and encoder(torch.rand(2, 5, 32, 32)).shape == (2, 192)
    assert encoder.patch_size == 8 and encoder(torch.rand(2, 5, 48, 64)).shape == (2, 192)


@pytest.mark.parametrize("options", [{"no_such_option": 1}, {"num_classes": 3}, {"in_chans": 1}])
def test_options_that_timm_does_not_take_are_refused_in_one_line(options):
    with pytest.raises(MisconfigurationException, match=next(iter(options))) as error:
        Timm("resnet18", options=options)
    assert "\n" not in str(error.value)


def test_resnets_layers_are_the_stem_then_one_block_each():
    encoder = ResNet(widths=[8, 16], blocks=[1, 2])
    layers = group_parameters(encoder, encoder.group_matcher(), reverse=True)
    assert {name.split(".")[0]: layer for name, layer in layers.items() if layer == 0} == {"stem": 0}
    assert all(layer == int(name.split(".")[1]) + 1 for name, layer in layers.items() if layer)


def test_attention_of_timm_is_what_its_own_tool_extracts():
    torch.manual_seed(0)
    encoder = small_timm(reg_tokens=2).eval()
    fused = [block.attn.fused_attn for block in encoder.model.blocks]
    view = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    weights = encoder.attention(view)
    assert [block.attn.fused_attn for block in encoder.model.blocks] == fused
    assert not any(layer._forward_pre_hooks for layer in encoder.modules())
    for block in encoder.model.blocks:
        block.attn.fused_attn = False
    extracted = AttentionExtract(encoder.model, method="hook")(view)
    torch.testing.assert_close(weights, torch.stack(list(extracted.values())))
