"""Parameters in one flat buffer, and optimisers that agree with torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from popnet import models
from popnet.config import Optimizer
from popnet.errors import ConfigError, TrainingError
from popnet.training.optimizers import ALIGNMENT, FlatParameters, build, rate_multiplier

RATES = [0.1, 0.3, 0.2, 0.05, 0.4, 0.25, 0.01, 0.1]


def model(layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    torch.manual_seed(3)
    return models.build("small_cnn", (2, 6, 6), 4).to(memory_format=layout)


def backward(trained: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(8, 2, 6, 6, generator=generator)
    labels = torch.randint(0, 4, (8,), generator=generator)
    functional.cross_entropy(trained(images), labels).backward()


def named(trained: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.named_parameters()}


def after_torch(optimizer_of, groups: str) -> dict[str, torch.Tensor]:
    """The weights after torch's optimiser, one parameter group for each parameter."""
    trained = model()
    multipliers = [rate_multiplier(name, groups) for name, _ in trained.named_parameters()]
    optimizer = optimizer_of([{"params": [p]} for p in trained.parameters()])
    for step, rate in enumerate(RATES):
        optimizer.zero_grad()
        backward(trained, step)
        for group, multiplier in zip(optimizer.param_groups, multipliers):
            group["lr"] = rate * multiplier
        optimizer.step()
    return named(trained)


def after_popnet(spec: Optimizer) -> dict[str, torch.Tensor]:
    trained = model()
    stepper = build(trained, FlatParameters(trained), spec)
    for step, rate in enumerate(RATES):
        backward(trained, step)
        stepper.step(rate)
    return named(trained)


def assert_equal_to_rounding(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    start = named(model())
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=2e-4, atol=2e-6)
        assert (value - start[name]).abs().max() > 1e-3, "the test would pass without a step"


# ---- the flat buffer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_shapes_and_strides_stay(layout):
    trained = model(layout)
    before, strides = named(trained), {name: p.stride() for name, p in trained.named_parameters()}
    flat = FlatParameters(trained)
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.stride() == strides[name]
        assert parameter.grad.stride() == strides[name]
        assert not parameter.grad.any()
    if layout == torch.channels_last:
        assert not trained.conv2.weight.is_contiguous()
    assert set(flat.offsets) == set(before)


def test_parameters_and_gradients_are_views_of_the_buffers():
    trained = model()
    flat = FlatParameters(trained)
    for name, parameter in trained.named_parameters():
        start, length = flat.offsets[name]
        assert parameter.data_ptr() == flat.values.data_ptr() + 4 * start
        assert parameter.grad.data_ptr() == flat.gradients.data_ptr() + 4 * start
        assert parameter.numel() == length
    flat.values.fill_(2.0)
    assert all(bool((parameter == 2).all()) for parameter in trained.parameters())
    backward(trained, 0)
    start, length = flat.offsets["fc.weight"]
    assert torch.equal(flat.gradients[start : start + length].view(4, 16), trained.fc.weight.grad)


def test_every_parameter_is_aligned_apart_and_padded_with_zeros():
    flat = FlatParameters(model())
    assert flat.values.data_ptr() % 64 == 0
    assert ALIGNMENT * 4 % 64 == 0
    covered = torch.zeros(len(flat.values), dtype=torch.int64)
    for start, length in flat.offsets.values():
        assert start % ALIGNMENT == 0
        covered[start : start + length] += 1
    assert int(covered.max()) == 1
    assert not flat.values[covered == 0].any()


def test_frozen_parameters_are_left_out():
    trained = model()
    trained.conv1.weight.requires_grad_(False)
    flat = FlatParameters(trained)
    assert "conv1.weight" not in flat.offsets
    assert trained.conv1.weight.grad is None


def test_parameters_with_gaps_become_dense():
    trained = nn.Linear(4, 3)
    trained.weight = nn.Parameter(torch.arange(24.0).view(3, 8)[:, ::2])
    expected = trained.weight.detach().clone()
    FlatParameters(trained)
    assert torch.equal(trained.weight, expected)
    assert trained.weight.is_contiguous()


def test_a_shared_parameter_stands_once():
    trained = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    trained[1].weight = trained[0].weight
    flat = FlatParameters(trained)
    assert list(flat.offsets) == ["0.weight"]
    assert trained[1].weight.data_ptr() == flat.values.data_ptr()


def test_other_types_than_float32_are_named():
    with pytest.raises(TrainingError, match=r"parameter 'weight' is float64: popnet keeps weights in float32"):
        FlatParameters(nn.Linear(2, 2).double())


# ---- groups ----------------------------------------------------------------------------------------------------------


def tenth(name: str, groups: str = "released") -> set[str]:
    built = models.build(name, (3, 32, 32), 10)
    multipliers = {key: rate_multiplier(key, groups) for key, _ in built.named_parameters()}
    assert set(multipliers.values()) <= {0.1, 1.0}
    return {key for key, multiplier in multipliers.items() if multiplier == 0.1}


def batch_norms(built: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in built.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_released_groups_of_resnet14():
    """Biases, and the scales of batch norms named `bn`; not those of the two shortcuts."""
    built = models.build("resnet14", (3, 32, 32), 10)
    norms = batch_norms(built)
    named_bn = {name for name in norms if "bn" in name}
    shortcuts = set(norms) - named_bn
    assert (len(named_bn), len(shortcuts)) == (13, 2)
    expected = {f"{name}.bias" for name in norms} | {f"{name}.weight" for name in named_bn} | {"fc.bias"}
    assert tenth("resnet14") == expected
    assert not any(f"{name}.weight" in tenth("resnet14") for name in shortcuts)


def test_released_groups_of_vgg11():
    """Every bias, and no scale at all: none of VGG's batch norms is named `bn`."""
    built = models.build("vgg11", (3, 32, 32), 10)
    biases = {name for name, _ in built.named_parameters() if name.endswith("bias")}
    assert len(batch_norms(built)) == 8
    assert len(biases) == 8 + 8 + 1
    assert tenth("vgg11") == biases


@pytest.mark.parametrize("name", ["resnet14", "vgg11"])
def test_uniform_groups_train_all_alike(name):
    assert tenth(name, "uniform") == set()


# ---- against torch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["released", "uniform"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(groups, nesterov):
    options = {"momentum": 0.9, "weight_decay": 5e-3, "nesterov": nesterov}
    expected = after_torch(lambda parameters: torch.optim.SGD(parameters, lr=1.0, **options), groups)
    got = after_popnet(Optimizer(name="sgd", lr=0.4, groups=groups, **options))
    assert_equal_to_rounding(got, expected)


def test_sgd_without_momentum_is_torchs():
    expected = after_torch(lambda parameters: torch.optim.SGD(parameters, lr=1.0), "uniform")
    assert_equal_to_rounding(after_popnet(Optimizer(name="sgd", lr=0.4, momentum=0.0)), expected)


@pytest.mark.parametrize("groups", ["released", "uniform"])
def test_adam_is_torchs(groups, monkeypatch):
    monkeypatch.setattr("test_optimizers.RATES", [rate / 20 for rate in RATES])
    options: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 5e-3}
    expected = after_torch(lambda parameters: torch.optim.Adam(parameters, lr=1.0, **options), groups)
    assert_equal_to_rounding(after_popnet(Optimizer(name="adam", lr=0.4, groups=groups, **options)), expected)


def test_the_groups_differ():
    one, other = (after_popnet(Optimizer(name="sgd", lr=0.4, groups=groups)) for groups in ("released", "uniform"))
    assert not torch.allclose(one["bn1.weight"], other["bn1.weight"], atol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_step_clears_the_gradients(name):
    trained = model()
    flat = FlatParameters(trained)
    stepper = build(trained, flat, Optimizer(name=name, lr=0.1))
    backward(trained, 0)
    assert flat.gradients.any()
    stepper.step(0.1)
    assert not flat.gradients.any()
    assert trained.fc.weight.grad is not None


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_checkpoint_continues_bit_for_bit(name):
    spec = Optimizer(name=name, lr=0.1, momentum=0.9, weight_decay=1e-3)
    rates = [rate / 20 for rate in RATES]
    trained = model()
    stepper = build(trained, FlatParameters(trained), spec)
    for step in range(3):
        backward(trained, step)
        stepper.step(rates[step])
    weights = {key: value.clone() for key, value in trained.state_dict().items()}
    state = {key: value.clone() for key, value in stepper.state().items()}
    twin = model()
    resumed = build(twin, FlatParameters(twin), spec)
    twin.load_state_dict(weights)
    resumed.load(state)
    for step in range(3, 6):
        for each, optimizer in ((trained, stepper), (twin, resumed)):
            backward(each, step)
            optimizer.step(rates[step])
    straight, continued = named(trained), named(twin)
    assert all(torch.equal(straight[key], continued[key]) for key in straight)


# ---- a user's own ----------------------------------------------------------------------------------------------------


def rmsprop(parameters, lr, alpha=0.9):
    return torch.optim.RMSprop(parameters, lr=lr, alpha=alpha)


def no_optimizer(parameters, lr):
    return "adam"


def test_an_imported_optimizer_steps_with_groups_and_rates():
    expected = after_torch(lambda parameters: torch.optim.RMSprop(parameters, lr=1.0, alpha=0.7), "released")
    spec = Optimizer(**{"import": "test_optimizers:rmsprop", "lr": 0.4, "groups": "released", "kwargs": {"alpha": 0.7}})
    got = after_popnet(spec)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-4, atol=2e-6)


def test_an_imported_optimizer_clears_the_gradients_in_the_buffer():
    trained = model()
    flat = FlatParameters(trained)
    stepper = build(trained, flat, Optimizer(**{"import": "torch.optim:SGD", "lr": 0.4}))
    backward(trained, 0)
    stepper.step(0.1)
    assert not flat.gradients.any()
    assert trained.fc.weight.grad.data_ptr() == flat.gradients.data_ptr() + 4 * flat.offsets["fc.weight"][0]


def test_an_imported_factory_must_return_an_optimizer():
    trained = model()
    spec = Optimizer(**{"import": "test_optimizers:no_optimizer", "lr": 0.4})
    with pytest.raises(
        TrainingError, match=r"'test_optimizers:no_optimizer' returned str, not a torch.optim.Optimizer"
    ):
        build(trained, FlatParameters(trained), spec)


def test_an_import_that_is_not_there_is_named():
    trained = model()
    with pytest.raises(ConfigError, match="'SDG' is not there; did you mean 'SGD'"):
        build(trained, FlatParameters(trained), Optimizer(**{"import": "torch.optim:SDG", "lr": 0.4}))


def test_an_imported_optimizer_is_never_checkpointed():
    trained = model()
    stepper = build(trained, FlatParameters(trained), Optimizer(**{"import": "torch.optim:SGD", "lr": 0.4}))
    with pytest.raises(TrainingError, match="cannot be checkpointed"):
        stepper.state()
    with pytest.raises(TrainingError, match="cannot be checkpointed"):
        stepper.load({})
