"""The loss of a batch: softmax cross-entropy, one native pass with its gradient on CUDA, PyTorch's own on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from popnet import native


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy in nats of logits [batch, classes], in float32, and labels int64 [batch]."""
    if logits.is_cuda:
        return fused_cross_entropy(logits.float(), labels)
    return functional.cross_entropy(logits.float(), labels)


def fused_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The same by the native kernel on either device (csrc/training/cross_entropy.h); float32 or float64 logits."""
    return _Fused.apply(logits, labels)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        loss, gradient = native.cross_entropy(logits.contiguous(), labels)
        ctx.save_for_backward(gradient)
        return loss.squeeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None
