"""The predictor of I-JEPA: tokens of some patches, and places -> tokens of the patches there."""

import torch
from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.networks.patches import sine_positions, take_patches
from ssl_modules.networks.transformer import Block, init_layers


class TokenPredictor(nn.Module):
    """A narrow transformer over the tokens it is given and, at the places asked for, one that is learned.

    Args:
        dim: width D of the encoder's tokens.
        width: of the predictor's; a multiple of 4 and of `heads`.
        depth, heads: its blocks, and the heads in each.

    Assran et al. 2023, section 3 and appendix A.1, https://arxiv.org/abs/2301.08243
    """

    def __init__(
        self, dim: PositiveInt, width: PositiveInt = 96, depth: PositiveInt = 3, heads: PositiveInt = 3
    ):
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm, self.predict = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, dim)
        init_layers(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, context: Tensor, targets: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predict each of T blocks on its own, all from the same tokens.

        Args:
            tokens: (B, M, D) of the patches at `context`.
            context: their places int64 (B, M).
            targets: places (B, T, L) of the patches to be predicted.
            grid: h, w.

        Returns:
            (B, T, L, D)
        """
        x = self.embed(tokens)
        images, blocks, length = targets.shape
        positions = sine_positions(x.shape[2], grid, device=x.device).expand(images, -1, -1)
        given = (x + take_patches(positions, context)).repeat_interleave(blocks, 0)  # (B * T, M, width)
        asked = self.mask_token + take_patches(positions, targets.flatten(1)).view(-1, length, x.shape[2])
        x = self.blocks(torch.cat([given, asked.to(given.dtype)], 1))
        return self.predict(self.norm(x[:, -length:])).unflatten(0, (images, blocks))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside norms and biases."""
        return {"mask_token"}
