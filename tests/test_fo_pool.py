"""fo-pooling: the native operation against a plain loop, its gradient against finite differences, and its bits."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from popnet import native
from popnet.models.fo_pooling import fo_pool

needs_gpu = pytest.mark.skipif(
    not (native.cuda_compiled and torch.cuda.is_available()), reason="needs a CUDA build and a CUDA device"
)
SHAPES = [(1, 1, 1), (7, 1, 5), (5, 3, 17), (70, 2, 33), (13, 4, 64)]


def arguments(length, batch, hidden, dtype=torch.float32, masked=True):
    generator = torch.Generator().manual_seed(length * batch * hidden)
    gates = 2.0 * torch.randn(length, batch, 3 * hidden, generator=generator, dtype=dtype)
    initial = torch.randn(batch, hidden, generator=generator, dtype=dtype)
    mask = (torch.rand(batch, hidden, generator=generator) < 0.7).to(dtype) / 0.7
    return gates, initial, mask if masked else None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_forward_is_the_plain_loop(shape, dtype, error, masked):
    gates, initial, mask = arguments(*shape, dtype, masked)
    output, cells = native.fo_pool(gates, initial, mask)
    expected = reference.fo_pool(gates.numpy(), initial.numpy(), None if mask is None else mask.numpy())
    np.testing.assert_allclose(output, expected[0], atol=error, rtol=error)
    np.testing.assert_allclose(cells, expected[1], atol=error, rtol=error)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradient_is_that_of_finite_differences(shape, masked):
    gates, initial, mask = arguments(*shape, torch.float64, masked)
    gates.requires_grad_()
    initial.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: fo_pool(*x, mask), (gates, initial))
    assert torch.autograd.gradcheck(lambda *x: fo_pool(*x, mask)[0], (gates, initial)), "the state left unused"
    assert torch.autograd.gradcheck(lambda *x: fo_pool(*x, mask)[1], (gates, initial)), "the output left unused"


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_in_float32_is_that_in_float64(shape):
    narrow, wide = [], []
    for dtype, out in ((torch.float32, narrow), (torch.float64, wide)):
        gates, initial, mask = (x.to(dtype) for x in arguments(*shape))
        gates.requires_grad_()
        initial.requires_grad_()
        output, state = fo_pool(gates, initial, mask)
        (output.square().sum() + state.sum()).backward()
        out += [gates.grad, initial.grad]
    for a, b in zip(narrow, wide):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)


def test_bits_depend_neither_on_threads_nor_on_neighbours():
    gates, initial, mask = arguments(21, 6, 37)
    gradient = torch.randn(21, 6, 37, generator=torch.Generator().manual_seed(1))

    def everything(g, i, m, outer, threads):
        output, cells = native.fo_pool(g, i, m, threads=threads)
        return output, cells, *native.fo_pool_gradients(g, i, m, cells, outer, outer, threads=threads)

    whole = everything(gates, initial, mask, gradient, 1)
    for threads in (2, 5):
        again = everything(gates, initial, mask, gradient, threads)
        assert all(torch.equal(a, b) for a, b in zip(whole, again))
    alone = everything(*(x.contiguous() for x in (gates[:, 4:5], initial[4:5], mask[4:5], gradient[:, 4:5])), 1)
    for part, rows in zip(alone, whole):
        assert torch.equal(part, rows[:, 4:5] if rows.dim() == 3 else rows[4:5])


def test_a_text_in_two_segments_is_one():
    gates, initial, _ = arguments(11, 2, 9)
    whole, state = fo_pool(gates, initial)
    first, middle = fo_pool(gates[:4].contiguous(), initial)
    second, end = fo_pool(gates[4:].contiguous(), middle.contiguous())
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(end, state)


def test_gates_beyond_all_measure():
    """Saturated gates are exact limits; a NaN stays one, so that divergence is seen."""
    huge = torch.tensor([3e38, -3e38, float("inf"), float("-inf")])
    gates = torch.cat([huge, torch.full((4,), 1e30), torch.full((4,), 1e30)])[None, None]
    output, _ = native.fo_pool(gates, torch.zeros(1, 4))
    torch.testing.assert_close(output[0, 0], torch.tensor([1.0, -1.0, 1.0, -1.0]), atol=1e-6, rtol=0)
    closed = torch.cat([huge, torch.full((4,), -1e30), torch.full((4,), 1e30)])[None, None]
    torch.testing.assert_close(native.fo_pool(closed, torch.full((1, 4), 0.5))[0], torch.full((1, 1, 4), 0.5))
    for place in range(3):
        gates = torch.zeros(1, 1, 3)
        gates[0, 0, place] = float("nan")
        assert native.fo_pool(gates, torch.ones(1, 1))[0].isnan().all()


def test_small_values_keep_their_digits():
    z = torch.logspace(-30, 0, 200)
    gates = torch.cat([z, torch.full_like(z, 100.0), torch.full_like(z, 100.0)])[None, None]
    output, _ = native.fo_pool(gates, torch.zeros(1, 200))
    torch.testing.assert_close(output[0, 0], torch.tanh(z), atol=0, rtol=3e-7)


def test_wrong_arguments_are_named():
    gates, initial, mask = arguments(3, 2, 5)
    with pytest.raises(ValueError, match=r"gates has shape \[0, 2, 15\].*each at least 1"):
        fo_pool(gates[:0], initial)
    with pytest.raises(ValueError, match=r"gates has shape \[3, 2, 14\]"):
        native.fo_pool(gates[:, :, :14].contiguous(), initial)
    with pytest.raises(ValueError, match=r"initial has shape \[1, 5\], but must be \[2, 5\]"):
        native.fo_pool(gates, initial[:1])
    with pytest.raises(ValueError, match=r"mask has shape \[2, 4\]"):
        native.fo_pool(gates, initial, mask[:, :4].contiguous())
    with pytest.raises(TypeError, match=r"mask must be torch.float32"):
        native.fo_pool(gates, initial, mask.double())
    with pytest.raises(ValueError, match=r"gates must be contiguous"):
        native.fo_pool(gates.transpose(0, 1), initial)
    with pytest.raises(TypeError, match=r"gates must be torch.float32 or torch.float64"):
        native.fo_pool(gates.half(), initial.half())
    output, cells = native.fo_pool(gates, initial)
    with pytest.raises(ValueError, match=r"cells has shape \[2, 2, 5\], but must be \[3, 2, 5\]"):
        native.fo_pool_gradients(gates, initial, None, cells[:2], output)


def test_torch_knows_the_operation():
    gates, initial, mask = arguments(4, 2, 6)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    inputs = (gates.requires_grad_(), initial.requires_grad_(), mask)
    torch.library.opcheck(torch.ops.popnet.fo_pool, inputs, test_utils=checks)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_gives_the_same_bits(shape, dtype):
    gates, initial, mask = arguments(*shape, dtype)
    gradient = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    output, cells = native.fo_pool(gates, initial, mask)
    here = [output, cells, *native.fo_pool_gradients(gates, initial, mask, cells, gradient, gradient)]
    gates, initial, mask, gradient = (x.cuda() for x in (gates, initial, mask, gradient))
    output, cells = native.fo_pool(gates, initial, mask)
    there = [output, cells, *native.fo_pool_gradients(gates, initial, mask, cells, gradient, gradient)]
    for a, b in zip(here, there):
        assert torch.equal(a, b.cpu())


@pytest.mark.gpu
@needs_gpu
def test_a_captured_graph_gives_the_same_bits():
    gates, initial, mask = (x.cuda() for x in arguments(9, 3, 40))
    gates.requires_grad_()
    expected = torch.autograd.grad(fo_pool(gates, initial, mask)[0].sum(), gates)[0]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = torch.autograd.grad(fo_pool(gates, initial, mask)[0].sum(), gates)[0]
    graph.replay()
    assert torch.equal(captured, expected)
