"""Class activation maps: the evidence adds up to the logits; the surest answers are found; looking leaves no trace."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from callbacks.evaluation.class_scores import find_linear_head
from callbacks.evaluation.features import Features
from callbacks.figures.cam import CAM, list_classes_to_explain, resolve_classes, select_surest
from callbacks.measures.class_activation import class_activation, grad_cam, maps_and_gradients
from callbacks.measures.maps_layer import find_maps_layer, find_tokens_layer
from callbacks.plotting.overlay import overlay_activation
from ssl_modules.networks.conv_autoencoder import ConvEncoder
from ssl_modules.networks.residual_autoencoder import ResidualEncoder
from ssl_modules.networks.resnet import ResNet
from ssl_modules.networks.vae import VAEConv
from ssl_modules.networks.vgg import VGG11
from ssl_modules.networks.vit import ViT
from tests.conftest import CLASSES
from tests.draws import draw_normal
from tests.figure_runs import (
    build_tiny_data,
    find_case,
    fit_case,
    read_figure,
    write_numbers,
)
from tests.methods import build
from tests.test_vit import SMALL, small_timm

DIGITS = Path(__file__).parents[1] / "configs" / "simclr_digits.yaml"


def small(encoder: nn.Module) -> nn.Module:
    """With running statistics that are not those of an untrained network."""
    encoder(torch.rand(8, 3, encoder_size(encoder), encoder_size(encoder)))
    return encoder.eval()


def encoder_size(encoder: nn.Module) -> int:
    return 32 if isinstance(encoder, VGG11) else 16


def test_the_mean_of_the_evidence_is_the_logit_less_its_bias():
    maps, head = draw_normal(3, 5, 4, 2), nn.Linear(5, 7).requires_grad_(False)
    evidence = class_activation(maps, head.weight)
    torch.testing.assert_close(evidence.mean((2, 3)), head(maps.mean((2, 3))) - head.bias)
    by_hand = sum(float(maps[1, d, 3, 1] * head.weight[6, d]) for d in range(5))
    assert evidence.shape == (3, 7, 4, 2) and float(evidence[1, 6, 3, 1]) == pytest.approx(by_hand, rel=1e-5)


def test_the_same_of_a_trained_pooled_encoder(data_dir, tmp_path):
    trainer = fit_case(
        find_case("Classifier"), data_dir, tmp_path, CAM(classes=[0, 1, 2, 3], per_class=1, mistakes=2)
    )
    _, arrays = read_figure(tmp_path, "cam")
    module = trainer.lightning_module.eval()
    _, labels, _ = trainer.datamodule.datasets["val"].__getitems__(arrays["index"])
    assert labels.tolist() == arrays["labels"].tolist()
    view = trainer.datamodule.read_batch("val", arrays["index"], torch.device("cpu")).views[0]
    with torch.no_grad():
        logits = module.head(module.encode(view))
    classes = torch.from_numpy(arrays["classes"])
    expected = logits.gather(1, classes) - module.head.bias[classes]
    torch.testing.assert_close(torch.from_numpy(arrays["maps"]).mean((2, 3)), expected.detach())
    torch.testing.assert_close(torch.from_numpy(arrays["prob"]), logits.softmax(1).gather(1, classes))
    assert arrays["predicted"].tolist() == logits.argmax(1).tolist() == classes[:, 0].tolist()


def test_grad_cam_is_the_papers():
    maps, gradients = draw_normal(2, 3, 4, 4), draw_normal(2, 5, 3, 4, 4, seed=1)
    evidence = grad_cam(maps, gradients)
    for k in range(5):
        alpha = [float(gradients[1, k, c].mean()) for c in range(3)]
        by_hand = max(0.0, sum(a * float(maps[1, c, 2, 3]) for c, a in enumerate(alpha)))
        assert float(evidence[1, k, 2, 3]) == pytest.approx(by_hand, abs=1e-6)


def test_grad_cam_of_pooled_maps_is_the_positive_class_activation():
    encoder, weight = small(ResNet(widths=[8, 16], blocks=[1, 1])), draw_normal(6, 16)
    view, classes = torch.rand(4, 3, 16, 16), torch.tensor([[0, 3], [5, 1], [2, 2], [1, 0]])
    maps, gradients, _ = maps_and_gradients(encoder, view, weight, classes)
    with torch.no_grad():
        every = class_activation(encoder.maps(view), weight)
    expected = torch.stack([evidence[k] for evidence, k in zip(every, classes, strict=True)]).relu()
    torch.testing.assert_close(grad_cam(maps, gradients), expected / maps[0, 0].numel())


ENCODERS = {
    "vgg": lambda: VGG11(hidden_dim=32),
    "autoencoder": lambda: ConvEncoder(16, widths=(8, 16)),
    "residual": lambda: ResidualEncoder(16, widths=(8, 16), code=24),
    "vae": lambda: VAEConv(16, width=8, stages=2, latent=8),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_are_those_of_the_scores_with_respect_to_the_maps(name):
    torch.manual_seed(0)
    encoder = small(ENCODERS[name]()).double()
    view, weight = (
        torch.rand(3, 3, encoder_size(encoder), encoder_size(encoder)).double(),
        draw_normal(4, encoder.dim),
    )
    classes = torch.tensor([[1, 0], [3, 2], [0, 2]])
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)  # of a frozen encoder, too
    with torch.no_grad():
        maps, gradients, _ = maps_and_gradients(encoder, view, weight, classes)
        torch.testing.assert_close(maps, encoder.maps(view).float())
    (layer, _), step = find_maps_layer(encoder, view), 1e-6 * draw_normal(*maps.shape).double()

    def score(shift: torch.Tensor) -> torch.Tensor:
        with layer.register_forward_hook(lambda *args: args[2] + shift):
            return (encoder(view)[:, None] * weight[classes]).sum(2)

    change = (score(step) - score(-step)) / 2
    expected = (gradients * step[:, None]).sum((2, 3, 4))
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4 * float(change.abs().max()))
    assert not layer._forward_hooks and all(p.grad is None for p in encoder.parameters())


class ChannelsLast(nn.Module):
    """Features are the mean of maps that a layer puts out as (B, h, w, C), as in Swin transformers."""

    dim, pooled, honest = 6, False, True

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)

    def cells(self, view):
        return self.norm(self.patches(view).permute(0, 2, 3, 1))

    def maps(self, view):
        cells = self.cells(view)
        return cells.permute(0, 3, 1, 2) if self.honest else cells

    def forward(self, view):
        return self.cells(view).mean((1, 2))


def test_maps_with_channels_last_inside_the_encoder_are_put_in_order():
    torch.manual_seed(0)
    encoder, view, weight = ChannelsLast().eval(), torch.rand(2, 3, 16, 24), draw_normal(5, 6)
    classes = torch.tensor([[0, 3], [4, 1]])
    maps, gradients, _ = maps_and_gradients(encoder, view, weight, classes)
    with torch.no_grad():
        every = class_activation(encoder.maps(view), weight)
    expected = torch.stack([evidence[k] for evidence, k in zip(every, classes, strict=True)]).relu()
    torch.testing.assert_close(grad_cam(maps, gradients), expected / (4 * 6))


@pytest.mark.parametrize("shape", [(16, 16), (16, 24)])
def test_maps_with_axes_in_another_order_are_refused(shape):
    encoder = ChannelsLast().eval()
    encoder.honest = False
    assert (
        maps_and_gradients(encoder, torch.rand(2, 3, *shape), draw_normal(5, 6), torch.tensor([[0]])) is None
    )


TRANSFORMERS = {  # builds an encoder with a class token: (a layer, by name)
    "ours": (lambda: ViT(**SMALL), "blocks.2.norm1"),
    "timm": (small_timm, "model.blocks.2.norm1"),
    "timm, registers": (lambda: small_timm(reg_tokens=2), "model.blocks.2.norm1"),
    "timm, norm after the mean": (lambda: small_timm(global_pool="avg"), "model.norm"),
}


@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_gradients_of_a_transformer_are_at_the_last_patches_that_features_read(name, size):
    torch.manual_seed(0)
    encoder = TRANSFORMERS[name][0]().eval().double().requires_grad_(False)
    view, weight = torch.rand(2, 3, *size).double(), draw_normal(5, 24)
    classes = torch.tensor([[0, 3], [4, 1]])
    with torch.no_grad():
        maps, gradients, layer = maps_and_gradients(encoder, view, weight, classes)
    grid = size[0] // 4, size[1] // 4
    assert layer == TRANSFORMERS[name][1] and maps.shape == (2, 24, *grid)
    step = 1e-6 * draw_normal(*maps.shape).double()
    outputs = []

    def score(sign: int) -> torch.Tensor:
        def move_patches(_, __, output):
            outputs.append(output[:, -grid[0] * grid[1] :].mT.unflatten(2, grid))
            moved = output.clone()
            moved[:, -grid[0] * grid[1] :] += sign * step.flatten(2).mT
            return moved

        with encoder.get_submodule(layer).register_forward_hook(move_patches):
            return (encoder(view)[:, None] * weight[classes]).sum(2)

    change = (score(1) - score(-1)) / 2
    expected = (gradients * step[:, None]).sum((2, 3, 4))
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4 * float(change.abs().max()))
    torch.testing.assert_close(maps, outputs[0].float())
    assert (change != 0).all() and not any(part._forward_hooks for part in encoder.modules())


def test_patches_after_the_last_attention_reach_no_class_token():
    """Why gradients are not taken at what `maps` returns."""
    torch.manual_seed(0)
    encoder, view = ViT(**SMALL).eval(), torch.rand(2, 3, 16, 16)
    outputs = []
    with encoder.blocks[-1].register_forward_hook(lambda *args: outputs.append(args[2])):
        features = encoder(view)
    (gradient,) = torch.autograd.grad(features.pow(3).sum(), outputs)
    assert gradient[:, 0].any() and not gradient[:, 1:].any()
    layer, arrange = find_tokens_layer(encoder, view)
    assert layer is encoder.blocks[-1].norm1
    tokens = torch.arange(2 * 17 * 24.0).reshape(2, 17, 24)
    assert torch.equal(arrange(tokens)[1, :, 2, 3], tokens[1, 1 + 4 * 2 + 3])


def test_features_of_a_fixed_sum_do_not_hide_the_patches():
    torch.manual_seed(0)
    encoder = ViT(**SMALL).eval()
    assert (
        encoder(torch.rand(2, 3, 16, 16)).sum(1).abs().max() < 1e-4
    )  # after a layer norm that has not learned
    assert find_tokens_layer(encoder, torch.rand(2, 3, 16, 16)).layer is encoder.blocks[-1].norm1


def test_a_mean_of_patches_has_exact_class_activation(data_dir, tmp_path):
    case = find_case("Classifier")._replace(encoder=find_case("MAE").encoder)
    trainer = fit_case(case, data_dir, tmp_path, CAM(classes=[0, 1, 2, 3], per_class=1, mistakes=2))
    facts, arrays = read_figure(tmp_path, "cam")
    module = trainer.lightning_module.eval()
    view = trainer.datamodule.read_batch("val", arrays["index"], torch.device("cpu")).views[0]
    classes = torch.from_numpy(arrays["classes"])
    with torch.no_grad():
        expected = module.head(module.encode(view)).gather(1, classes) - module.head.bias[classes]
    assert facts["evidence"] == "class activation" and arrays["maps"].shape[2:] == (4, 4)
    torch.testing.assert_close(torch.from_numpy(arrays["maps"]).mean((2, 3)), expected, atol=1e-5, rtol=1e-4)


def test_a_class_token_has_grad_cam_and_says_at_which_layer(data_dir, tmp_path):
    case = find_case("MAE")._replace(encoder=lambda norm: ViT(16, width=24, depth=2, heads=2))
    fit_case(case, data_dir, tmp_path, CAM(per_class=1, mistakes=2))
    facts, arrays = read_figure(tmp_path, "cam")
    assert (facts["evidence"], facts["layer"]) == ("Grad-CAM", "encoder.blocks.1.norm1")
    assert arrays["maps"].shape[2:] == (4, 4) and (arrays["maps"] >= 0).all() and arrays["maps"].any()


def test_gradients_work_in_inference_mode_and_change_no_parameter():
    encoder, weight = small(VGG11(hidden_dim=32)), draw_normal(4, 32)
    with torch.inference_mode():
        view, classes = torch.rand(2, 3, 32, 32), torch.tensor([[0], [1]])
        _, gradients, _ = maps_and_gradients(encoder, view, weight.clone(), classes)
    assert gradients.abs().sum() > 0 and all(p.grad is None for p in encoder.parameters())


def test_the_surest_are_those_of_brute_force():
    prob, labels = (3 * draw_normal(60, 4)).softmax(1), torch.arange(60) % 4
    right, wrong = select_surest(prob, labels, [2, 0], per_class=3, mistakes=5)
    sure, predicted = prob.max(1)
    by_hand = []
    for k in (2, 0):
        hits = [i for i in range(60) if predicted[i] == labels[i] == k]
        by_hand += sorted(hits, key=lambda i: -float(sure[i]))[:3]
    assert right.tolist() == by_hand
    errors = sorted((i for i in range(60) if predicted[i] != labels[i]), key=lambda i: -float(sure[i]))
    pairs, kept = set(), []
    for i in errors:
        if (pair := (int(labels[i]), int(predicted[i]))) not in pairs:
            pairs.add(pair)
            kept.append(i)
    assert wrong.tolist() == kept[:5]
    perfect = F.one_hot(labels, 4).float()
    assert select_surest(perfect, labels, [1], 2, 5)[1].tolist() == []


def test_answer_truth_and_main_classes_are_explained_once_each():
    predicted, labels = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 3])
    assert list_classes_to_explain(predicted, labels, [0, 3, 6], 10).tolist() == [
        [0, 3, 6],
        [2, 1, 0],
        [3, 0, 6],
    ]
    assert list_classes_to_explain(predicted, labels, [2], 4).tolist() == [[0, 2], [2, 1], [3, 2]]
    assert list_classes_to_explain(torch.tensor([1]), torch.tensor([1]), [0, 1], 2).tolist() == [[1, 0]]


def test_classes_go_by_name_or_number():
    assert resolve_classes(["star", 0], CLASSES) == [3, 0] and resolve_classes(None, list("abcdefghij")) == [
        0,
        3,
        6,
    ]
    assert resolve_classes(None, ["no", "yes"]) == [0, 1]
    for wrong in ("stars", 4, -1):
        with pytest.raises(
            MisconfigurationException, match=f"no class {wrong!r} .*circle, line, square, star"
        ):
            resolve_classes([wrong], CLASSES)


def test_light_is_full_at_the_maximum_and_off_for_negative_evidence():
    image = np.full((8, 8, 3), (200, 100, 0), np.uint8)
    evidence = torch.full((4, 4), -1.0)
    picture, light = overlay_activation(image, evidence)
    assert light.max() == 0 and np.ptp(picture, axis=2).max() == 0  # all gray
    evidence[1, 2] = 5
    picture, light = overlay_activation(image, evidence)
    assert picture.shape == (160, 160, 3) and light.shape == (160, 160) and light.max() == 1
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert (row // 40, column // 40) == (1, 2)
    np.testing.assert_allclose(picture[row, column], image[0, 0] / 255, atol=1e-6)
    picture, light = overlay_activation(image[..., :1], evidence)
    assert picture.shape == (160, 160, 3) and picture.max() == pytest.approx(
        200 / 255
    )  # one channel: white light


@pytest.mark.parametrize(
    "method, number", [("SimCLR", 0), ("Autoencoder", 1), ("Classifier", 0), ("CMC", 0), ("VAE", 1)]
)
def test_any_method_with_maps_has_a_picture(method, number, data_dir, tmp_path):
    trainer = fit_case(find_case(method, number), data_dir, tmp_path, CAM(per_class=1, mistakes=2))
    facts, arrays = read_figure(tmp_path, "cam")
    n, k = arrays["classes"].shape
    assert arrays["maps"].shape[:2] == arrays["prob"].shape == (n, k) and k == 3 and len(arrays["index"]) == n
    expected = "class activation" if trainer.lightning_module.encoder.pooled else "Grad-CAM"
    assert facts["evidence"] == expected and facts["classes"] == CLASSES and facts["split"] == "val"
    assert np.isfinite(arrays["maps"]).all() and arrays["maps"].dtype == np.float32


def test_one_line_says_why_there_is_no_picture(data_dir, tmp_path):
    fit_case(find_case("VAE"), data_dir, tmp_path, callback := CAM())
    assert callback.skip_reason and not (tmp_path / "figures").exists()
    fit_case(find_case("SimCLR"), write_numbers(tmp_path), tmp_path, callback := CAM())
    assert callback.skip_reason
    fit_case(find_case("Classifier", 1), data_dir, tmp_path, callback := CAM())
    assert callback.skip_reason and not (tmp_path / "figures").exists()


def test_an_unknown_class_stops_a_run_before_it_starts(data_dir, tmp_path):
    with pytest.raises(MisconfigurationException, match="no class 'starfish'"):
        fit_case(find_case("SimCLR"), data_dir, tmp_path, CAM(classes=["starfish"]))


def test_validate_draws_it_in_inference_mode(data_dir, tmp_path):
    case = find_case("Autoencoder")
    module, data = build(case), build_tiny_data(case, data_dir)
    options = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[Features(), CAM()], default_root_dir=tmp_path, **options)
    trainer.validate(module, data, verbose=False)
    facts, _ = read_figure(tmp_path, "cam")
    assert facts["head"] == find_linear_head(trainer, module)[1] == "linear probe"
