"""The fully connected layer with few outputs: its arithmetic, gradients and independence of threads and batch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import popnet
from popnet import native
from popnet.models.fully_connected import NarrowLinear, _Narrow

SHAPES = [(1, 1, 1), (5, 8, 2), (33, 19, 10), (3, 1031, 7), (2, 520, 32), (0, 9, 3)]


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small_integers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Whose products and short sums float32 holds exactly."""
    return torch.randint(-50, 50, shape, generator=torch.Generator().manual_seed(seed)).float()


def stated(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """fma(a, b, total) in float32: a product of two is exact in float64, and the sum's one more rounding is rare."""
    return (a.astype(np.float64) * b + total).astype(np.float32)


def oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    lanes = np.zeros((8, len(x), len(weight)), np.float32)
    for i in range(x.shape[1]):
        lanes[i % 8] = stated(x[:, i, None], weight[None, :, i], lanes[i % 8])
    for half in (4, 2, 1):
        lanes[:half] += lanes[half : 2 * half]
    return lanes[0] + bias


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_stated_arithmetic(shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    x, weight = numbers(rows, inputs).float(), numbers(outputs, inputs, seed=1).float()
    bias, gradient = numbers(outputs, seed=2).float(), numbers(rows, outputs, seed=3).float()
    y = native.narrow_linear(x, weight, bias)
    np.testing.assert_array_equal(y.numpy(), oracle(x.numpy(), weight.numpy(), bias.numpy()))
    of_x, of_weight, of_bias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for o in range(outputs):
        of_x = stated(gradient.numpy()[:, o, None], weight.numpy()[o], of_x)
    for b in range(rows):
        of_weight = stated(gradient.numpy()[b, :, None], x.numpy()[b], of_weight)
        of_bias = of_bias + gradient.numpy()[b]
    made = native.narrow_linear_gradient(gradient, x, weight)
    for got, wanted in zip(made, (of_x, of_weight, of_bias)):
        assert got is not None
        np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_bits_do_not_depend_on_threads_batch_or_alignment(shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    x, weight = numbers(rows, inputs).float(), numbers(outputs, inputs, seed=1).float()
    gradient = numbers(rows, outputs, seed=3).float()
    shifted = torch.empty(x.numel() + 1)[1:].view_as(x).copy_(x)
    y = native.narrow_linear(x, weight)
    assert torch.equal(y, native.narrow_linear(x, weight, threads=2))
    assert torch.equal(y, native.narrow_linear(shifted, weight))
    assert torch.equal(y, torch.cat([native.narrow_linear(row[None], weight) for row in x]))
    made = native.narrow_linear_gradient(gradient, x, weight)
    for other in (
        native.narrow_linear_gradient(gradient, x, weight, threads=2),
        native.narrow_linear_gradient(gradient, shifted, weight),
    ):
        assert all(torch.equal(a, b) for a, b in zip(made, other))  # type: ignore[arg-type]


def test_gradients_are_those_of_finite_differences() -> None:
    arrays = [numbers(5, 11), numbers(3, 11, seed=1), numbers(3, seed=2)]
    assert torch.autograd.gradcheck(_Narrow.apply, [array.requires_grad_() for array in arrays])


def test_the_module_is_nn_linear() -> None:
    layer = NarrowLinear(40, 10)
    x = small_integers(40, 6).t()
    assert not x.is_contiguous()
    torch.testing.assert_close(layer(x), functional.linear(x, layer.weight, layer.bias))
    with torch.inference_mode():
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))
        assert torch.equal(layer(x), pickle.loads(pickle.dumps(layer))(x))
    assert layer(x[:0]).shape == (0, 10)
    assert torch.equal(layer(x[:1]), layer(x)[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_refusals_name_the_argument() -> None:
    x, weight = torch.zeros(2, 4), torch.zeros(3, 4)
    with pytest.raises(TypeError, match=r"weight must be torch\.float32 like x"):
        native.narrow_linear(x, weight.double())
    with pytest.raises(ValueError, match="weight has 33 outputs"):
        native.narrow_linear(x, torch.zeros(33, 4))
    with pytest.raises(ValueError, match="weight must have shape"):
        native.narrow_linear(x, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="x must be contiguous"):
        native.narrow_linear(torch.zeros(4, 2).t(), weight)
    with pytest.raises(ValueError, match="gradient must have shape"):
        native.narrow_linear_gradient(torch.zeros(2, 2), x, weight)


def test_a_linear_model_trains_to_the_same_bits_with_any_number_of_workers(tmp_path: Path) -> None:
    recipe = {
        "dataset": {"name": "synthetic", "kwargs": {"train": 100, "test": 20}},
        "model": "linear",
        "epochs": 2,
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.01},
    }
    digests = []
    for name, workers in (("one", 1), ("two", 2)):
        result = popnet.run(recipe=recipe, population=2, store=tmp_path / name, workers=workers, device="cpu")
        digests.append(sorted(result.store.members()["weights_digest"]))
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2


def test_what_is_compiled_is_pytorchs_own() -> None:
    layer, x = NarrowLinear(40, 10), numbers(6, 40).float()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
