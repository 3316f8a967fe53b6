"""Encoders of timm, by name."""

import fnmatch
from typing import Any

import timm
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from timm.layers import SelectAdaptivePool2d
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from common.hints import nearest_names
from common.ranges import PositiveInt
from ssl_modules.networks.patches import mask_patches, take_patches


def create_model(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a model of timm; where it can take images of any size, it does."""
    if not timm.is_model(name):
        near = ", ".join(nearest_names(name, timm.list_models(), count=3))
        raise MisconfigurationException(f"timm has no model {name!r}{near and f'; near: {near}'}")
    random_state = torch.get_rng_state()
    try:
        return timm.create_model(name, **({"dynamic_img_size": True} | options))
    except TypeError:  # it knows no such option
        torch.set_rng_state(random_state)
    try:
        return timm.create_model(name, **options)
    except TypeError as error:
        raise MisconfigurationException(f"Timm: {name} does not take these options: {error}") from error


class Timm(nn.Module):
    """Any model of timm as an encoder: images (B, C, H, W) -> features (B, dim), the input of its classifier.

    Vision transformers take views of any size, and become a TimmViT, which has tokens and attention.

    Args:
        name: e.g. `resnet18`, `convnext_atto`, `vit_tiny_patch16_224`; `timm.list_models()` has about a thousand.
        pretrained: load timm's weights (a download).
        in_channels: C.
        img_size: H = W, for models that must know it; of vision transformers, the size that positions are made for.
        options: further arguments of the model, e.g. `{patch_size: 4, depth: 6, drop_path_rate: 0.1}`.

    https://huggingface.co/docs/timm
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        in_channels: PositiveInt = 3,
        img_size: PositiveInt | None = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__()
        ours = {"pretrained": pretrained, "in_chans": in_channels, "num_classes": 0}
        ours |= {} if img_size is None else {"img_size": img_size}
        if twice := ours.keys() & (options or {}):
            raise MisconfigurationException(
                f"Timm: leave {', '.join(sorted(twice))} out of options: Timm sets it"
            )
        self.model = create_model(name, ours | (options or {}))
        self.pretrained, self.in_channels = pretrained, in_channels
        self.dim = self.model.head_hidden_size
        pool = getattr(self.model, "global_pool", None)
        plain_mean = isinstance(pool, SelectAdaptivePool2d) and pool.pool_type == "avg"
        self.pooled = plain_mean and self.model.num_features == self.dim
        if isinstance(self.model, VisionTransformer):
            self.__class__ = TimmViT  # callers ask what an encoder has by hasattr
            no_norm_after = isinstance(self.model.fc_norm, nn.Identity)
            self.pooled = pool == "avg" and no_norm_after and not self.model.pool_include_prefix

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of the images that timm's weights were trained with, where it has loaded them."""
        if not self.pretrained or self.in_channels != 3:
            return None
        return list(self.model.pretrained_cfg["mean"]), list(self.model.pretrained_cfg["std"])

    def maps(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> the last maps, or tokens on their grid, before pooling (B, D, h, w); D = dim if `pooled`."""
        x = self.model.forward_features(view)
        if isinstance(x, Tensor) and x.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", None) == "NHWC"  # e.g. Swin
            return x.permute(0, 3, 1, 2) if channels_last else x
        normed = hasattr(self.model, "norm")
        return self.model.forward_intermediates(view, indices=1, norm=normed, intermediates_only=True)[-1]

    def forward(self, view: Tensor) -> Tensor:
        return self.model(view)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside norms and biases."""
        patterns = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else ()
        names = [name for name, _ in self.model.named_parameters()]  # timm also names what a model may lack
        return {f"model.{pattern}" for pattern in patterns if fnmatch.filter(names, pattern)}

    def group_matcher(self, coarse: bool = False) -> Any:
        """A function that tells the layer of a parameter by its name, from 0 at the images, as timm has it."""
        if not hasattr(self.model, "group_matcher"):
            raise MisconfigurationException(
                f"timm does not tell the layers of {type(self.model).__name__}: leave layer_decay out"
            )
        layers = group_parameters(self.model, self.model.group_matcher(coarse), reverse=True)
        return lambda name: layers[name.removeprefix("model.")]


class TimmViT(Timm):
    """What a Timm is if timm's model is a VisionTransformer: it has tokens and attention, as ViT has.

    Tokens are those of patches: the class token, and others without a place, are left out.
    """

    @property
    def patch_size(self) -> int:
        """Side of a patch."""
        return self.model.patch_embed.feat_ratio()

    @property
    def has_class_token(self) -> bool:
        """Whether the first token is the class token."""
        return self.model.cls_token is not None

    def grid(self, view: Tensor) -> tuple[int, int]:
        """How many rows h and columns w of patches a view (B, C, H, W) has."""
        return self.model.patch_embed.dynamic_feat_size(tuple(view.shape[2:]))

    def encode_tokens(
        self,
        view: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, D) and tokens of patches (B, M, D), as `ViT.encode_tokens`."""
        model = self.model
        x = mask_patches(model.patch_embed(view), mask, mask_token)  # (B, N, D) or (B, h, w, D)
        x = model._pos_embed(x)
        prefix = model.num_prefix_tokens
        if keep is not None:
            x = torch.cat([x[:, :prefix], take_patches(x[:, prefix:], keep)], 1)
        x = model.norm(model.blocks(model.norm_pre(x)))
        return model.forward_head(x), x[:, prefix:]

    def maps(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> the patches' tokens (B, D, h, w)"""
        return self.encode_tokens(view)[1].mT.unflatten(2, self.grid(view))

    def attention(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> every block's attention (depth, B, heads, T, T): T is the class token, if there is one, other
        tokens without a place, and N patches."""
        layers = [layer for layer in self.model.blocks.modules() if hasattr(layer, "fused_attn")]
        fused, weights = [layer.fused_attn for layer in layers], []
        keep_weights = [
            layer.attn_drop.register_forward_pre_hook(lambda _, inputs: weights.append(inputs[0]))
            for layer in layers
        ]
        try:
            for layer in layers:
                layer.fused_attn = False  # fused attention puts out no weights
            self.encode_tokens(view)
        finally:
            for layer, hook, was_fused in zip(layers, keep_weights, fused, strict=True):
                hook.remove()
                layer.fused_attn = was_fused
        return torch.stack(weights)
