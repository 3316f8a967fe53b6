"""A small vision transformer: an image is a sequence of patches.

Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929
"""

from typing import Literal

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.ranges import PositiveFloat, PositiveInt
from ssl_modules.networks.patches import mask_patches, sine_positions, take_patches
from ssl_modules.networks.transformer import Block, init_layers


class ViT(nn.Module):
    """Images (B, C, H, W), of any sides that are multiples of a patch's, -> features (B, dim).

    Positions are fixed sines and cosines (`sine_positions`); a view of another size spans the same extent.

    Args:
        img_size: H = W of views whose patches are one apart for the positions.
        patch_size: side of a patch.
        width: D, of a token; a multiple of 4.
        depth: blocks.
        heads: of the attention in each block.
        mlp_ratio: width of the perceptrons' hidden layers, divided by D.
        in_channels: C.
        pool: features are the class `token`, or the `mean` of the patches' tokens; after the last norm.
        frozen_patches: the projection of patches stays as initialized, which is steadier: Chen et al. 2021,
            section 4.1, https://arxiv.org/abs/2104.02057
    """

    has_class_token = True

    def __init__(
        self,
        img_size: PositiveInt = 32,
        patch_size: PositiveInt = 4,
        width: PositiveInt = 192,
        depth: PositiveInt = 6,
        heads: PositiveInt = 3,
        mlp_ratio: PositiveFloat = 4.0,
        in_channels: PositiveInt = 3,
        pool: Literal["token", "mean"] = "token",
        frozen_patches: bool = False,
    ):
        super().__init__()
        if img_size % patch_size:
            raise MisconfigurationException(
                f"ViT: img_size {img_size} must be a multiple of patch_size ({patch_size})"
            )
        if width % heads or width % 4:
            raise MisconfigurationException(
                f"ViT: width {width} must be a multiple of 4 and of heads ({heads})"
            )
        self.patch_size, self.dim, self.pool, self.pooled = patch_size, width, pool, pool == "mean"
        self.in_channels = in_channels
        self.reference = (img_size // patch_size, img_size // patch_size)
        self.register_buffer("positions", sine_positions(width, self.reference), persistent=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.blocks = nn.Sequential(*(Block(width, heads, int(mlp_ratio * width)) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        init_layers(self)
        self.patch_embed.requires_grad_(not frozen_patches)

    def grid(self, view: Tensor) -> tuple[int, int]:
        """How many rows h and columns w of patches a view (B, C, H, W) has."""
        height, width = view.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise MisconfigurationException(
                f"ViT: patches of {self.patch_size} do not fill a view of {height}x{width}: set the encoder's "
                "patch_size, or the size of the views, so that it divides both sides"
            )
        return height // self.patch_size, width // self.patch_size

    def embed(
        self,
        view: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tensor:
        """What the blocks read (B, 1 + M, D): the class token, then patches in the order of `keep`."""
        grid = self.grid(view)
        x = mask_patches(self.patch_embed(view).flatten(2).mT, mask, mask_token)  # (B, N, D)
        positions = self.positions
        if grid != self.reference:
            positions = sine_positions(self.dim, grid, self.reference, view.device).to(positions.dtype)
        x = take_patches(x + positions, keep)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)

    def encode_tokens(
        self,
        view: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode patches, all or some, in one pass.

        Args:
            view: (B, C, H, W).
            keep: positions int64 (B, M) of the patches that are encoded; no other enters. All N if None.
            mask: bool (B, N), true where `mask_token` takes the place of a patch's embedding; its position stays.
            mask_token: (D,), a parameter of the method.

        Returns:
            Features (B, D), and tokens of patches (B, M, D) in the order of `keep`.
        """
        x = self.norm(self.blocks(self.embed(view, keep, mask, mask_token)))
        tokens = x[:, 1:]
        return x[:, 0] if self.pool == "token" else tokens.mean(1), tokens

    def forward(self, view: Tensor) -> Tensor:
        return self.encode_tokens(view)[0]

    def maps(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> the patches' tokens (B, D, h, w)"""
        return self.encode_tokens(view)[1].mT.unflatten(2, self.grid(view))

    def attention(self, view: Tensor) -> Tensor:
        """(B, C, H, W) -> every block's attention (depth, B, heads, 1 + N, 1 + N), the class token first."""
        x, weights = self.embed(view), []
        for block in self.blocks:
            weights.append(block.attn.weights(block.norm1(x)))
            x = block(x)
        return torch.stack(weights)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside norms and biases."""
        return {"cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Which parameters are of one layer, in the order of layers, as timm's models tell it."""
        return {
            "stem": r"^cls_token|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }
