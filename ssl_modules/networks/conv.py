"""A faster weight gradient for convolutions on small maps, given to the networks from outside."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def weight_gradient(x: Tensor, grad: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Compute a convolution's weight gradient as one product of matrices for each position in the kernel.

    Args:
        x: input (B, C, H, W); fastest in channels_last.
        grad: gradient of the output (B, K, h, w).

    Returns:
        (K, C, kernel, kernel)
    """
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))  # (B, H, W, C)
    height, width = grad.shape[2:]
    grad = grad.permute(0, 2, 3, 1).flatten(0, 2).T  # (K, B h w)
    out = x.new_empty(kernel, kernel, len(grad), x.shape[1])
    for i in range(kernel):
        for j in range(kernel):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            torch.mm(grad, pixels[:, rows, columns].reshape(-1, x.shape[1]), out=out[i, j])
    return out.permute(2, 3, 0, 1)


class SmallMapConvolution(torch.autograd.Function):
    """`F.conv2d` with `weight_gradient` going back; the gradient of the input is still the library's."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.nn.grad.conv2d_input(x.shape, weight, grad, ctx.stride, ctx.padding)
        grad_weight = weight_gradient(x, grad, weight.shape[2], ctx.stride, ctx.padding)
        return grad_x, grad_weight, None, None


class SmallMapConv2d(nn.Conv2d):
    """An nn.Conv2d that takes `weight_gradient` where it trains in bf16 on small maps; it adds no state of its own."""

    def forward(self, x: Tensor) -> Tensor:
        stride, padding = self.stride[0], self.padding[0]
        small = x.shape[2] * x.shape[3] // stride**2 < self.out_channels
        if small and x.device.type == "cpu" and torch.is_grad_enabled() and autocasts_to_bf16():
            return SmallMapConvolution.apply(x.bfloat16(), self.weight.bfloat16(), stride, padding)
        return super().forward(x)


def speed_up_convolutions(module: nn.Module) -> None:
    """Make every suitable nn.Conv2d inside a module a SmallMapConv2d, in place.

    On CPUs with bf16 matrix units (Intel AMX) the library's weight gradient is up to ten times slower than products of
    matrices where the output has fewer pixels than channels (benchmarks/conv.py). Elsewhere nothing is changed.
    """
    if not has_bf16_matrix_units():
        return
    for layer in module.modules():
        if type(layer) is nn.Conv2d and is_plain(layer):
            layer.__class__ = SmallMapConv2d


def is_plain(layer: nn.Conv2d) -> bool:
    """Whether a convolution is square and pads with zeros, without bias, groups or dilation."""
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or layer.bias is not None:
        return False
    square = all(height == width for height, width in (layer.kernel_size, layer.stride, layer.padding))
    return square and layer.groups == 1 and layer.dilation == (1, 1)


def has_bf16_matrix_units() -> bool:
    """Whether the CPU has matrix units for bf16."""
    return getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)  # torch 2.6 cannot tell


def autocasts_to_bf16() -> bool:
    """Whether autocast computes in bf16 on the CPU now."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
