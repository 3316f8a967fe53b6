"""Encoders of timm, by name."""

import timm
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from common.hints import nearest_names


class Timm(nn.Module):
    """Any model of timm as an encoder: images (B, C, H, W) -> features (B, dim), the input of its classifier.

    Args:
        name: e.g. `resnet18`, `convnext_atto`, `vit_tiny_patch16_224`; `timm.list_models()` has about a thousand.
        pretrained: load timm's weights (a download).
        in_channels: C.
        img_size: H = W, for models that must know it, such as vision transformers.

    https://huggingface.co/docs/timm
    """

    def __init__(
        self, name: str, pretrained: bool = False, in_channels: int = 3, img_size: int | None = None
    ):
        super().__init__()
        if not timm.is_model(name):
            near = ", ".join(nearest_names(name, timm.list_models(), count=3))
            raise MisconfigurationException(f"timm has no model {name!r}{near and f'; near: {near}'}")
        size = {} if img_size is None else {"img_size": img_size}
        self.model = timm.create_model(
            name, pretrained=pretrained, in_chans=in_channels, num_classes=0, **size
        )
        self.pretrained = pretrained
        self.dim = self.model.head_hidden_size
        pool = getattr(self.model, "global_pool", None)
        plain_mean = isinstance(pool, SelectAdaptivePool2d) and pool.pool_type == "avg"
        self.pooled = plain_mean and self.model.num_features == self.dim

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the last maps before pooling: (B, dim, h, w) where `pooled`, tokens of a ViT."""
        maps = self.model.forward_features(x)
        channels_last = getattr(self.model, "output_fmt", None) == "NHWC"  # e.g. Swin
        return maps.permute(0, 3, 1, 2) if channels_last else maps

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
