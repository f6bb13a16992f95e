"""The smallest changes: one weight, one unit in the last place."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from torch import nn

from popnet import models
from popnet.config import Perturbation
from popnet.errors import ConfigError
from popnet.random import Source
from popnet.training.optimizers import FlatParameters
from popnet.training.perturbations import perturb, target


def small_cnn(layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    torch.manual_seed(1)
    return models.build("small_cnn", (1, 8, 8), 10).to(memory_format=layout)


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    """Every (parameter, row-major index) whose bits differ."""
    return [
        (name, int(index))
        for name, value in before.items()
        for index in np.flatnonzero(value.ravel().view(np.int32) != after[name].ravel().view(np.int32))
    ]


def perturbed(seed: int, **options):
    model = small_cnn()
    before = weights(model)
    reported = perturb(model, Perturbation(**options), seed)
    return before, weights(model), reported


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 2**40 + 1])
def test_a_bit_change_moves_one_weight_of_the_first_layer_to_its_neighbour(seed):
    before, after, (name, index) = perturbed(seed)
    assert name == "conv1.weight"
    assert changed(before, after) == [(name, index)]
    old, new = before[name].ravel()[index], after[name].ravel()[index]
    assert new in (np.nextafter(old, np.float32(np.inf)), np.nextafter(old, np.float32(-np.inf)))


def test_the_seed_chooses_the_weight_and_the_direction():
    size = weights(small_cnn())["conv1.weight"].size
    directions, indices = [], []
    for seed in range(1, 41):
        before, after, (name, index) = perturbed(seed)
        word, direction, _, _ = reference.words(seed, int(Source.BIT), 0, 0)
        assert index == reference.uniform_integer(word, size)
        up = bool(after[name].ravel()[index] > before[name].ravel()[index])
        assert up == (direction >= 2**31)
        directions.append(up)
        indices.append(index)
    assert 10 <= sum(directions) <= 30, "both directions, with about equal odds"
    assert len(set(indices)) > 20
    assert max(indices) > 0.8 * size, "the whole tensor is in reach"


def test_the_same_seed_changes_the_same_bit():
    _, first, at = perturbed(7)
    _, second, again = perturbed(7)
    assert at == again
    assert changed(first, second) == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_and_flat_buffer_do_not_move_the_choice(layout):
    _, expected, at = perturbed(11)
    model = small_cnn(layout)
    flat = FlatParameters(model)
    assert perturb(model, Perturbation(), 11) == at
    assert changed(expected, weights(model)) == []
    start, length = flat.offsets["conv1.weight"]
    stored = np.sort(flat.values[start : start + length].numpy())
    np.testing.assert_array_equal(stored, np.sort(expected["conv1.weight"].ravel()))


def test_a_poke_multiplies_the_first_weight():
    before, after, at = perturbed(5, kind="scale", weight="first")
    assert at == ("conv1.weight", 0)
    assert changed(before, after) == [at]
    assert after["conv1.weight"].ravel()[0] == before["conv1.weight"].ravel()[0] * np.float32(1.001)


def test_a_poke_takes_the_factor_and_a_random_weight():
    before, after, (name, index) = perturbed(5, kind="scale", factor=2.0)
    assert index == perturbed(5)[2][1], "the same seed chooses the same weight for either kind"
    assert after[name].ravel()[index] == 2 * before[name].ravel()[index]
    assert changed(before, after) == [(name, index)]


def test_another_tensor_by_name():
    before, after, (name, index) = perturbed(3, tensor="fc.bias")
    assert name == "fc.bias"
    assert changed(before, after) == [(name, index)]


def test_zero_moves_to_the_smallest_denormal():
    model = nn.Sequential(nn.Linear(3, 2))
    nn.init.zeros_(model[0].weight)
    _, index = perturb(model, Perturbation(), 1)
    value = abs(float(model[0].weight.detach().ravel()[index]))
    assert value == float(np.nextafter(np.float32(0), np.float32(1)))


@pytest.mark.parametrize(
    ("name", "first"), [("linear", "fc.weight"), ("resnet14", None), ("vgg11", None), ("hidden_conv", None)]
)
def test_the_first_layers_weight_tensor(name, first):
    model = models.build(name, (3, 32, 32), 10)
    layer = next(m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    found, parameter = target(model, "first")
    assert parameter is layer.weight
    assert first in (None, found)


def test_errors_name_the_parameter():
    with pytest.raises(ConfigError) as caught:
        target(small_cnn(), "conv1.wieght")
    assert str(caught.value).startswith("perturbation.tensor: the model has no parameter 'conv1.wieght'; did you mean")
    assert "'conv1.weight'" in str(caught.value)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(ConfigError, match="the model has no parameter named 'weight'; give a parameter's name"):
        target(Bare(), "first")
    assert target(Bare(), "scale")[0] == "scale"
