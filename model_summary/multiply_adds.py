"""Multiply-adds of the products in a network: convolutions, products of matrices, attention, recurrent layers.

One is a multiplication with the addition of its result to a sum. Norms, activations, pooling and sums count none, as is
usual. Attention counts all pairs of tokens, also those that a mask hides.
"""

import re
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from model_summary.operation_mode import OperationMode, iterate_tensors, name_options

# operations of torch that have products; what has no formula, here or in torch, is not counted
PRODUCTS = re.compile(
    r"mm$|_mm_|mm_for_cpu|conv(?!ert)|(?<!bi)linear(?!1d|3d)|attention|transformer|rnn|lstm|gru|matmul|_fft_|linalg"
    r"|cholesky|[a-z]_solve|spsolve|_lu_with|geqrf|orgqr|ormqr|svd|^inverse|matrix_exp|cdist|pdist|sparse|mkldnn"
)
WITHOUT_PRODUCTS = ("linalg_vector_norm", "linalg_diagonal", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell")


class MultiplyAddCounter(OperationMode):
    """Counts, while active, multiply-adds in `count`, and lists in `uncounted` operations whose number is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.uncounted: list[str] = []

    def record(self, function: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        namespace, name = function._schema.name.split("::")
        packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if namespace == "aten" else None
        is_dense = all(tensor.layout is torch.strided for tensor in iterate_tensors((args, kwargs)))
        if name in FORMULAS and namespace == "aten" and is_dense:
            self.count += FORMULAS[name](name_options(function, args, kwargs))
        elif packet in flop_registry and is_dense:
            self.count += flop_registry[packet](*args, **kwargs, out_val=outputs) // 2
        elif name not in WITHOUT_PRODUCTS and (namespace != "aten" or PRODUCTS.search(name) or not is_dense):
            self.uncounted.append(name)


def count_attention(options: dict[str, Any]) -> int:
    """Queries (B, heads, T, E), keys (B, ..., S, E), values (B, ..., S, D): all scores, and the sums of values."""
    query, value = options["query"], options["value"]
    return query.shape[:3].numel() * value.shape[2] * (query.shape[3] + value.shape[3])


def count_lstm(options: dict[str, Any]) -> int:
    """One layer in one direction, on (T, B, inputs): each step multiplies the input and the state by four gates."""
    return options["input"].shape[:2].numel() * (options["weight0"].numel() + options["weight1"].numel())


FORMULAS = {
    "_scaled_dot_product_flash_attention_for_cpu": count_attention,
    "mkldnn_rnn_layer": count_lstm,
    "addbmm": lambda options: options["batch1"].numel() * options["batch2"].shape[2],
    "mv": lambda options: options["self"].numel(),
    "addmv": lambda options: options["mat"].numel(),
    "dot": lambda options: options["self"].numel(),
    "vdot": lambda options: options["self"].numel(),
    "addr": lambda options: options["vec1"].numel() * options["vec2"].numel(),
}
