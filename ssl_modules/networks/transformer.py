"""The blocks of transformers, with the norm before each part.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
"""

import torch.nn.functional as F
from torch import Tensor, nn

from common.ranges import PositiveInt


class Attention(nn.Module):
    """Every token (B, T, D) gathers from all, in each of several heads."""

    def __init__(self, width: PositiveInt, heads: PositiveInt):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def split_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, T, D) -> queries, keys and values (B, heads, T, D / heads)"""
        return self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def weights(self, x: Tensor) -> Tensor:
        """(B, T, D) -> how much each token takes from each (B, heads, T, T); rows sum to 1."""
        return compare_tokens(*self.split_heads(x)[:2])

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.split_heads(x)
        if x.device.type == "cpu":  # going back in bf16, the fused kernel takes five times as long there
            gathered = compare_tokens(queries, keys) @ values
        else:
            gathered = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(gathered.transpose(1, 2).flatten(2))


def compare_tokens(queries: Tensor, keys: Tensor) -> Tensor:
    """Queries and keys (B, heads, T, E) -> attention weights (B, heads, T, T)."""
    return (queries @ keys.mT / keys.shape[-1] ** 0.5).softmax(-1)


class Block(nn.Module):
    """Attention, then a perceptron for each token; each is added to what its norm reads."""

    def __init__(self, width: PositiveInt, heads: PositiveInt, hidden_dim: PositiveInt):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def init_layers(module: nn.Module) -> None:
    """Draw the weights of all linear layers and patch projections in a module anew, uniform by Glorot & Bengio 2010;
    biases are 0. He et al. 2021, appendix A.1, https://arxiv.org/abs/2111.06377"""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight.data.flatten(1))
            nn.init.zeros_(layer.bias)
