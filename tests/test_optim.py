"""What the optimizer sees: groups, rates by layer, and a weight decay that moves."""

import math

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from datamodules.arrays import Arrays
from datamodules.augmentation.augment import Recipe
from ssl_modules.classifier import Classifier
from ssl_modules.networks.lab_pair import LabPair
from ssl_modules.networks.pooled_resnet import PooledResNet
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.timm_model import Timm
from ssl_modules.networks.vit import ViT
from ssl_modules.optim import parameter_groups
from ssl_modules.simclr import SimCLR
from tests.methods import train

RATE, DECAY = 0.01, 0.05


def small_vit() -> ViT:
    return ViT(img_size=16, patch_size=8, width=8, depth=3, heads=2)


def adamw(groups):
    return torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY)


def build(method=SimCLR, encoder=small_vit, **options):
    torch.manual_seed(0)
    options = ({"hidden_dim": 8, "out_dim": 4} if method is SimCLR else {"num_outputs": 4}) | options
    return method(**{"encoder": encoder(), "optimizer": adamw} | options)


def tiny(data_dir, method) -> Arrays:
    """Four training batches an epoch."""
    recipe = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5)
    return Arrays(
        "tiny", data_dir=data_dir, views=[recipe] * (2 if isinstance(method, SimCLR) else 1), batch_size=22
    )


class Spy(Callback):
    """Keeps each parameter's learning rate and weight decay at every step."""

    def __init__(self):
        self.rates, self.decays, self.first = [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        names = {parameter: name for name, parameter in module.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        self.first.append(groups[0]["lr"])
        self.rates.append({names[p]: group["lr"] for group in groups for p in group["params"]})
        self.decays.append({names[p]: group["weight_decay"] for group in groups for p in group["params"]})


def fit(module, data_dir, folder, **options):
    spy = Spy()
    trainer = train(module, tiny(data_dir, module), folder, callbacks=[spy], **options)
    return trainer, spy


def depth_of(name: str) -> int:
    """How many layers of the small ViT lie from a parameter to the head, by hand; 0 for what is not in the encoder."""
    if not name.startswith("encoder."):
        return 0
    if ".blocks." in name:
        return 3 - int(name.split(".")[2])
    return 1 if ".norm." in name else 4


# --- groups


def test_what_networks_name_does_not_decay_nor_do_norms_and_biases():
    module = build()
    decay, no_decay = module.parameter_groups()
    names = {parameter: name for name, parameter in module.named_parameters()}
    undecayed = {names[p] for p in no_decay["params"]}
    assert "encoder.cls_token" in undecayed and no_decay["weight_decay"] == 0
    assert undecayed == {n for n, p in module.named_parameters() if p.ndim < 2 or n == "encoder.cls_token"}
    assert {names[p] for p in decay["params"]} == set(names.values()) - undecayed and decay.keys() == {
        "params"
    }


def test_names_may_be_patterns_and_the_methods_own():
    module = nn.Module()
    module.tokens, module.inner = nn.Parameter(torch.zeros(2, 2)), nn.Sequential(nn.Linear(2, 2))
    module.no_weight_decay = lambda: {"tokens", "inner.*"}
    (group,) = parameter_groups(module)
    assert group["weight_decay"] == 0 and len(group["params"]) == 3


def test_without_layer_decay_there_are_two_groups_in_order():
    module = build(encoder=lambda: ResNet(widths=[8, 16], blocks=[1, 1]))
    groups = module.parameter_groups()
    assert [group.keys() for group in groups] == [{"params"}, {"params", "weight_decay"}]
    for group, matrices in zip(groups, (True, False), strict=True):
        expected = [p for p in module.parameters() if (p.ndim > 1) == matrices]
        assert all(p is q for p, q in zip(group["params"], expected, strict=True))


ENCODERS = {
    "vit": small_vit,
    "resnet": lambda: ResNet(widths=[8, 16], blocks=[1, 2]),
    "pair": lambda: LabPair(widths=[8, 16], blocks=[1, 2]),
    "pooled": lambda: PooledResNet(widths=(8, 24, 24), stem=8),
    "timm": lambda: Timm("test_vit", img_size=32),
    "timm resnet": lambda: Timm("test_resnet"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layer_learns_at_its_share_of_the_next_ones_rate(name):
    module = build(encoder=ENCODERS[name], layer_decay=0.5)
    groups = module.parameter_groups()
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in module.parameters()}
    scales = sorted({group.get("lr_scale", 1) for group in groups}, reverse=True)
    assert scales == [0.5**k for k in range(len(scales))] and len(scales) > 2
    assert [group.get("lr_scale", 1) for group in groups] == sorted(
        (group.get("lr_scale", 1) for group in groups), reverse=True
    )
    outside = {id(p) for group in groups if "lr_scale" not in group for p in group["params"]}
    assert outside == {id(p) for p in module.projector.parameters()}
    first = next(p for p in module.encoder.parameters() if p.ndim == 4)  # of the stem
    assert next(g["lr_scale"] for g in groups if any(p is first for p in g["params"])) == scales[-1]


def test_two_networks_side_by_side_have_the_same_layers():
    module = build(encoder=ENCODERS["pair"], layer_decay=0.5)
    scale = {id(p): g.get("lr_scale", 1) for g in module.parameter_groups() for p in g["params"]}
    for a, b in zip(
        module.encoder.luminance.parameters(), module.encoder.chromaticity.parameters(), strict=True
    ):
        assert scale[id(a)] == scale[id(b)]


def test_layer_decay_is_for_the_network_that_learns():
    class Distillation(SimCLR):
        trained_encoder = "student"

        def __init__(self, **options):
            super().__init__(**options)
            self.student = small_vit()
            self.encoder.requires_grad_(False)

    torch.manual_seed(0)
    module = Distillation(encoder=small_vit(), optimizer=adamw, layer_decay=0.5)
    scaled = {p for group in module.parameter_groups() if "lr_scale" in group for p in group["params"]}
    assert scaled == set(module.student.parameters())


def test_layer_decay_of_a_frozen_encoder_is_refused_in_one_line():
    with pytest.raises(MisconfigurationException, match="does not learn") as error:
        build(Classifier, frozen=True, layer_decay=0.5).parameter_groups()
    assert "\n" not in str(error.value)


# --- in a Trainer


def test_rates_of_layers_keep_their_ratio_in_warm_up_and_cosine(data_dir, tmp_path):
    _, spy = fit(build(layer_decay=0.5, warmup_epochs=1), data_dir, tmp_path, max_epochs=3)
    factors = [(k + 1) / 4 for k in range(4)] + [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert len(spy.rates) == 12
    for rates, first, factor in zip(spy.rates, spy.first, factors, strict=True):
        assert first == pytest.approx(RATE * factor)  # what is logged
        for name, rate in rates.items():
            assert rate == pytest.approx(RATE * factor * 0.5 ** depth_of(name)), name


def test_the_encoders_own_rate_is_scaled_by_layer(data_dir, tmp_path):
    module = build(Classifier, layer_decay=0.5, encoder_lr=0.004)
    _, spy = fit(module, data_dir, tmp_path)
    for name, rate in spy.rates[0].items():
        expected = 0.004 * 0.5 ** depth_of(name) if name.startswith("encoder.") else RATE
        assert rate == pytest.approx(expected), name
    assert spy.first[0] == RATE


def test_a_step_of_plain_gradient_descent_is_scaled(data_dir, tmp_path):
    """The optimizer's own steps, not only its options: with half the rate a layer, half the way."""
    ways = []
    for layer_decay in (1.0, 0.5):
        module = build(layer_decay=layer_decay, optimizer=lambda groups: torch.optim.SGD(groups, lr=RATE))
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        fit(module, data_dir, tmp_path, limit_train_batches=1)
        ways.append({name: p.detach() - before[name] for name, p in module.named_parameters()})
    for name, way in ways[0].items():
        torch.testing.assert_close(ways[1][name], way * 0.5 ** depth_of(name), atol=1e-7, rtol=1e-2)


def test_weight_decay_moves_in_the_groups_that_decay(data_dir, tmp_path):
    module = build(weight_decay_end=0.4, warmup_epochs=1, layer_decay=0.5)
    undecayed = {n for n, p in module.named_parameters() if p.ndim < 2 or n == "encoder.cls_token"}
    trainer, spy = fit(module, data_dir, tmp_path, max_epochs=3)
    for step, decays in enumerate(spy.decays):
        expected = 0.4 + (DECAY - 0.4) * (1 + math.cos(math.pi * step / 12)) / 2
        for name, decay in decays.items():
            assert decay == (0 if name in undecayed else pytest.approx(expected)), name
    assert spy.decays[0]["projector.0.weight"] == DECAY
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == pytest.approx(0.4)


def test_accumulation_moves_weight_decay_with_optimizer_steps(data_dir, tmp_path):
    _, spy = fit(build(weight_decay_end=0.0), data_dir, tmp_path, max_epochs=2, accumulate_grad_batches=2)
    expected = [DECAY * (1 + math.cos(math.pi * (step // 2) / 4)) / 2 for step in range(8)]
    assert [decays["projector.0.weight"] for decays in spy.decays] == pytest.approx(expected)


def test_where_there_is_no_end_weight_decay_stays(data_dir, tmp_path):
    _, spy = fit(build(), data_dir, tmp_path)
    assert {decays["projector.0.weight"] for decays in spy.decays} == {DECAY}
    _, spy = fit(build(weight_decay_end=0.4), data_dir, tmp_path, max_epochs=-1, max_steps=3)
    assert spy.decays[0]["projector.0.weight"] == DECAY < spy.decays[2]["projector.0.weight"]


@pytest.mark.parametrize(
    "optimizer",
    [lambda groups: torch.optim.SGD(groups, lr=RATE), lambda groups: torch.optim.Rprop(groups, lr=RATE)],
)
def test_a_weight_decay_that_cannot_move_is_refused_in_one_line(data_dir, tmp_path, optimizer):
    with pytest.raises(MisconfigurationException, match="weight_decay_end") as error:
        fit(build(weight_decay_end=0.4, optimizer=optimizer), data_dir, tmp_path)
    assert "\n" not in str(error.value)


def test_a_resumed_run_has_the_same_rates_weight_decays_and_weights(data_dir, tmp_path):
    options = {"layer_decay": 0.5, "weight_decay_end": 0.4, "warmup_epochs": 1}
    whole = build(**options)
    _, uninterrupted = fit(whole, data_dir, tmp_path, max_epochs=3)

    class Stop(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "half.ckpt")
                trainer.should_stop = True

    module = build(**options)
    train(module, tiny(data_dir, module), tmp_path, callbacks=[Stop()], max_epochs=3)
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert not any("lr_scale" in group for group in saved["optimizer_states"][0]["param_groups"])
    module, spy = build(**options), Spy()
    train(
        module,
        tiny(data_dir, module),
        tmp_path,
        resume_from=tmp_path / "half.ckpt",
        callbacks=[spy],
        max_epochs=3,
    )
    assert spy.rates == uninterrupted.rates[6:] and spy.decays == uninterrupted.decays[6:]
    for a, b in zip(module.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
