"""The light decoder of MAE: tokens of some patches -> pixels of all."""

import torch
from torch import Tensor, nn

from common.ranges import PositiveInt
from ssl_modules.networks.patches import sine_positions
from ssl_modules.networks.transformer import Block, init_layers


class PatchDecoder(nn.Module):
    """A transformer over the tokens it is given and, at all other places, one that is learned.

    Args:
        dim: width D of the encoder's tokens.
        pixels: numbers a patch has.
        width: of the decoder's tokens; a multiple of 4 and of `heads`.
        depth, heads: its blocks, and the heads in each.

    He et al. 2021, section 3, https://arxiv.org/abs/2111.06377
    """

    def __init__(
        self,
        dim: PositiveInt,
        pixels: PositiveInt,
        width: PositiveInt = 96,
        depth: PositiveInt = 2,
        heads: PositiveInt = 3,
    ):
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm, self.predict = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, pixels)
        init_layers(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, M, D) at places `keep` (B, M) of a grid h x w -> pixels of its patches (B, h * w, pixels)."""
        x = self.embed(tokens)
        places = keep[..., None].expand(-1, -1, x.shape[2])
        everywhere = self.mask_token.to(x.dtype).expand(len(x), grid[0] * grid[1], -1)
        x = everywhere.scatter(1, places, x) + sine_positions(x.shape[2], grid, device=x.device)
        return self.predict(self.norm(self.blocks(x)))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside norms and biases."""
        return {"mask_token"}
