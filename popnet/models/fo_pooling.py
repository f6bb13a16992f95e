"""fo-pooling as an operation of torch: differentiable, and usable inside CUDA graphs (csrc/training/fo_pool.h)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from popnet import native


@torch.library.custom_op("popnet::fo_pool", mutates_args=())
def _fo_pool(gates: Tensor, initial: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    return native.fo_pool(gates, initial, mask, threads=torch.get_num_threads())


@torch.library.custom_op("popnet::fo_pool_gradients", mutates_args=())
def _fo_pool_gradients(
    gates: Tensor,
    initial: Tensor,
    mask: Tensor | None,
    cells: Tensor,
    output_gradient: Tensor,
    cell_gradient: Tensor | None,
) -> tuple[Tensor, Tensor]:
    threads = torch.get_num_threads()
    return native.fo_pool_gradients(gates, initial, mask, cells, output_gradient, cell_gradient, threads=threads)


@_fo_pool.register_fake
def _(gates: Tensor, initial: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = (*gates.shape[:2], gates.shape[2] // 3)
    return gates.new_empty(shape), gates.new_empty(shape)


@_fo_pool_gradients.register_fake
def _(
    gates: Tensor,
    initial: Tensor,
    mask: Tensor | None,
    cells: Tensor,
    output_gradient: Tensor,
    cell_gradient: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gates), torch.empty_like(initial)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(
    ctx: Any, output_gradient: Tensor | None, cell_gradient: Tensor | None
) -> tuple[Tensor, Tensor, None]:
    gates, initial, mask, cells = ctx.saved_tensors
    outer = torch.zeros_like(cells) if output_gradient is None else output_gradient.contiguous()
    inner = None if cell_gradient is None else cell_gradient.contiguous()
    return (*_fo_pool_gradients(gates, initial, mask, cells, outer, inner), None)


_fo_pool.register_autograd(_differentiate, setup_context=_keep)


def fo_pool(gates: Tensor, initial: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = f_t z_t + (1 - f_t) h_{t-1}, output o_t h_t (Bradbury et al. 2016, Section 2.1).

    Args:
        gates: float [length, batch, 3 * hidden]: z, f and o before tanh, sigmoid and sigmoid.
        initial: [batch, hidden]: h before the first step.
        mask: [batch, hidden]: multiplies the output at every step (locked dropout); it gets no gradient.

    Returns:
        The output [length, batch, hidden], and the last h, [batch, hidden], before the output gate.

    Raises:
        ValueError, TypeError: naming the argument, such as a length of 0.
    """
    output, cells = _fo_pool(gates, initial, mask)
    return output, cells[-1]
