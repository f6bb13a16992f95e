"""Batch norm with the ReLU, and the addition before it, that follow it: one operation in training.

A training step is bound by memory, and the fused kernels (csrc/training/batch_norm.h) read and write each activation
fewer times; neither threads nor the layout of the input change their bits. In evaluation, and for what the kernels do
not cover, these are PyTorch's own operations one after the other. Both modules are `nn.BatchNorm2d` with its
parameters, buffers and names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from popnet import native

_WEIGHTS = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
}
"""What the kernels cover: the type of the weights by the input's."""


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over [batch, channels, height, width]."""

    def forward(self, x: Tensor) -> Tensor:
        return fused_batch_norm(self, x) if _fuses(self, x) else super().forward(x)


class BatchNormReLU(nn.BatchNorm2d):
    """relu(batch norm(x)), or relu(batch norm(x) + residual)."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if _fuses(self, x) and (residual is None or residual.dtype == x.dtype):
            return fused_batch_norm(self, x, relu=True, residual=residual)
        y = super().forward(x)
        return functional.relu(y if residual is None else y + residual)


def fused_batch_norm(norm: nn.BatchNorm2d, x: Tensor, relu: bool = False, residual: Tensor | None = None) -> Tensor:
    """`norm` in training mode as one native operation on either device, with its running statistics updated.

    Args:
        norm: with weight and bias, running statistics and a momentum.
        x: [batch, channels, height, width] of any layout; copied to channels_last where it is not.
        relu: followed by a ReLU; implied by a residual.
        residual: added before the ReLU, of the same shape and dtype.
    """
    return _Fused.apply(x, norm.weight, norm.bias, residual, norm, relu)


def _fuses(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the native kernel stands in: in training, for what it covers."""
    return (
        norm.training
        and not torch.compiler.is_compiling()
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.device.type in ("cpu", "cuda")
        and x.dim() == 4
        and norm.weight.dtype == _WEIGHTS.get(x.dtype)
        and x.numel() > x.shape[1]
    )


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d, relu: bool
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        statistics: Any = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        momentum: Any = norm.momentum
        result = native.batch_norm(
            *(x, weight, bias, *statistics),
            eps=norm.eps,
            momentum=momentum,
            relu=relu,
            residual=None if residual is None else residual.contiguous(memory_format=torch.channels_last),
            threads=torch.get_num_threads(),
        )
        ctx.save_for_backward(x, result.y, weight, bias, result.mean, result.inverse_sd)
        ctx.relu, ctx.add = relu, residual is not None
        return result.y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        made = native.batch_norm_gradient(
            gradient, *ctx.saved_tensors, relu=ctx.relu, add=ctx.add, threads=torch.get_num_threads()
        )
        return made.x, made.weight, made.bias, made.residual, None, None
