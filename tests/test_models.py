"""Models: parameter counts, initial values, names and their grouping, shapes, layouts, errors."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from popnet import models
from popnet.errors import ConfigError

CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)

# The published experiments' counts, exact.
PARAMETERS = [
    ("linear", CIFAR, 10, 30_730),
    ("linear", MNIST, 10, 7_850),
    ("hidden_fc", CIFAR, 10, 1_578_506),
    ("hidden_fc", MNIST, 10, 407_050),
    ("hidden_conv", CIFAR, 10, 168_714),
    ("hidden_conv", MNIST, 10, 127_114),
    ("resnet6", CIFAR, 10, 9_978),
    ("resnet10", CIFAR, 10, 42_682),
    ("resnet14", CIFAR, 10, 172_602),
    ("resnet18", CIFAR, 10, 11_001_034),
    ("resnet14_x0.125", CIFAR, 10, 2_936),
    ("resnet14_x0.25", CIFAR, 10, 11_190),
    ("resnet14_x0.5", CIFAR, 10, 43_682),
    ("resnet14_x2", CIFAR, 10, 686_186),
    ("resnet14_x4", CIFAR, 10, 2_736_330),
    ("resnet14_x8", CIFAR, 10, 10_928_522),
    ("vgg11", CIFAR, 10, 9_231_114),
    ("shufflenet_v2_x0_5", CIFAR, 10, 352_042),
    ("mnist_cnn", MNIST, 10, 1_199_882),
    ("resnet50_imagenet", (3, 224, 224), 1000, 25_557_032),
    ("resnet18_imagenet", (3, 224, 224), 1000, 11_689_512),
    ("resnet34", CIFAR, 100, 21_155_364),
    ("resnet9", CIFAR, 10, 2_274_880),
    ("small_cnn", DIGITS, 10, 3_778),
]

SMALL = ["linear", "hidden_fc", "hidden_conv", "resnet6", "resnet14", "resnet14_x0.125", "small_cnn", "mnist_cnn"]
CONVOLUTIONAL = [
    "hidden_conv",
    "resnet6",
    "resnet14",
    "resnet9",
    "shufflenet_v2_x0_5",
    "small_cnn",
    "mnist_cnn",
    "vgg11",
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(1)


def trains_at_a_tenth(name: str) -> bool:
    """The `released` grouping."""
    return "bias" in name or ("bn" in name and "weight" in name)


@pytest.mark.parametrize(("name", "shape", "classes", "count"), PARAMETERS)
def test_parameter_count(name: str, shape: tuple[int, int, int], classes: int, count: int) -> None:
    with torch.device("meta"):
        model = models.build(name, shape, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_every_registered_model_has_a_published_count() -> None:
    assert {row[0] for row in PARAMETERS} == set(models.names())


@pytest.mark.parametrize("name", [*SMALL, "resnet9", "shufflenet_v2_x0_5", "vgg11"])
def test_logits_and_gradients(name: str) -> None:
    model = models.build(name, CIFAR, 100)
    logits = model(torch.randn(3, *CIFAR))
    assert logits.shape == (3, 100)
    logits.square().sum().backward()
    missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


@pytest.mark.parametrize("shape", [MNIST, DIGITS, (3, 17, 23)], ids=str)
@pytest.mark.parametrize("name", [*SMALL, "shufflenet_v2_x0_5"])
def test_other_input_sizes(name: str, shape: tuple[int, int, int]) -> None:
    assert models.build(name, shape, 7)(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_both_memory_layouts_give_the_same_logits(name: str) -> None:
    model = models.build(name, CIFAR).double().eval()
    x = torch.randn(2, *CIFAR, dtype=torch.float64)
    expected = model(x)
    actual = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_equal_random_state_gives_equal_weights_and_another_gives_others() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(models.build("resnet14").parameters())

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_resnet_initial_values() -> None:
    model = models.build("resnet18")
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * 9
            assert module.bias is None
            expected = math.sqrt(2 / fan_out)
            assert module.weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(module.weight.numel()))
            assert abs(module.weight.mean().item()) < 5 * expected / math.sqrt(module.weight.numel())
        elif isinstance(module, nn.BatchNorm2d):
            scale = 0.0 if re.search(r"stages\.\d+\.\d+\.bn2$", name) else 1.0
            assert torch.all(module.weight == scale), name
            assert torch.all(module.bias == 0), name
    bound = 1 / math.sqrt(512)
    assert model.fc.weight.abs().max().item() <= bound
    assert model.fc.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("name", ["vgg11", "resnet9", "shufflenet_v2_x0_5", "small_cnn", "hidden_conv", "mnist_cnn"])
def test_other_models_keep_pytorchs_initialisation(name: str) -> None:
    for module in models.build(name).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            largest = module.weight.abs().max().item()
            assert 0.8 / math.sqrt(fan_in) < largest <= 1.0001 / math.sqrt(fan_in)
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)


@pytest.mark.parametrize("name", ["resnet10", "resnet14", "resnet18", "resnet34"])
def test_released_grouping_of_resnets(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name)
    slow = {key for key, _ in model.named_parameters() if trains_at_a_tenth(key)}
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert f"{key}.bias" in slow
            assert (f"{key}.weight" in slow) == ("shortcut" not in key), key
        elif isinstance(module, nn.Conv2d):
            assert f"{key}.weight" not in slow
    assert "fc.bias" in slow
    assert "fc.weight" not in slow
    assert sum("shortcut" in key for key, _ in model.named_parameters()) == 2 * (len(model.stages) - 1)


def test_released_grouping_of_vgg_slows_biases_only() -> None:
    with torch.device("meta"):
        parameters = dict(models.build("vgg11").named_parameters())
    assert [key for key in parameters if "bn" in key] == []
    assert {key for key in parameters if trains_at_a_tenth(key)} == {key for key in parameters if key.endswith(".bias")}


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "resnet9", "small_cnn"])
def test_released_grouping_slows_every_batch_norm_elsewhere(name: str) -> None:
    model = models.build(name)
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert trains_at_a_tenth(f"{key}.weight"), key
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert not trains_at_a_tenth(f"{key}.weight"), key


def test_shortcut_takes_every_second_pixel_and_adds_zero_channels() -> None:
    shortcut = models.resnet.Downsample(4, 10).eval()
    x = torch.randn(2, 4, 7, 6)
    y = shortcut(x)
    assert y.shape == (2, 10, 4, 3)
    assert torch.allclose(y[:, :4], x[:, :, ::2, ::2] / math.sqrt(1 + 1e-5))
    assert torch.all(y[:, 4:] == 0)


def test_shortcut_keeps_channels_last() -> None:
    shortcut = models.resnet.Downsample(4, 8)
    x = torch.randn(2, 4, 8, 6).contiguous(memory_format=torch.channels_last)
    assert shortcut(x).is_contiguous(memory_format=torch.channels_last)


def test_shuffle_interleaves_the_halves() -> None:
    left, right = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    mixed = models.shufflenet._interleave(left, right)
    assert mixed[0, :, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_resnet9_scales_its_logits_and_pools_the_maximum() -> None:
    model = models.build("resnet9").eval()
    x = torch.randn(2, *CIFAR)
    features = model.features(x)
    assert features.shape == (2, 128, 6, 6)
    assert torch.equal(model(x), model.fc(features.amax(dim=(2, 3))) * 0.2)
    assert [key for key, _ in model.named_parameters() if "bias" in key and "bn" not in key] == []


def test_global_max_pool_sends_a_ties_gradient_to_one_pixel() -> None:
    x = torch.ones(1, 2, 3, 3, requires_grad=True)
    models.pooling.GlobalMaxPool()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten(2).sort(dim=2).values[..., -2:].tolist() == [[[0.0, 1.0], [0.0, 1.0]]]


def test_options_of_a_family() -> None:
    assert models.build("hidden_fc", MNIST, hidden=20).fc1.out_features == 20
    with pytest.raises(ConfigError, match="model 'hidden_fc' has no option 'hiden': did you mean 'hidden'"):
        models.build("hidden_fc", MNIST, hiden=20)
    with pytest.raises(ConfigError, match="model 'resnet14' has no option 'depth': it takes none"):
        models.build("resnet14", depth=3)


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [("1/8", "0.125"), ("1/4", "0.25"), ("1/2", "0.5"), ("0.5", "0.5"), ("2", "2"), ("4/2", "2")],
)
def test_widths_may_be_fractions(spelling: str, canonical: str) -> None:
    assert models.check_name(f"resnet14_x{spelling}") == f"resnet14_x{canonical}"
    with torch.device("meta"):
        assert models.build(f"resnet14_x{spelling}").fc.in_features == int(64 * float(canonical))


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("resnet41", "'resnet14'"),
        ("hiden_fc", "'hidden_fc'"),
        ("resnet14_x1/3", "'resnet14_x0.5'|'resnet14_x4'|'resnet14'"),
        ("resnet14_x1/0", "resnet14"),
        ("torchvision/resnet1", "'torchvision/resnet18'|'torchvision/resnet101'"),
        ("zzzz", "known: .*linear.*torchvision/NAME"),
    ],
)
def test_unknown_name_proposes_the_nearest(name: str, proposal: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown model '{re.escape(name)}'.*({proposal})"):
        models.build(name)


@pytest.mark.parametrize(("name", "shape"), [("vgg11", MNIST), ("resnet9", DIGITS), ("mnist_cnn", (1, 5, 28))])
def test_images_too_small_say_the_least_size(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}' needs images of at least \d+x\d+ .*{shape[1]}x{shape[2]}"):
        models.build(name, shape)


@pytest.mark.parametrize(("name", "least"), [("vgg11", 32), ("resnet9", 11), ("mnist_cnn", 6)])
def test_the_least_size_works(name: str, least: int) -> None:
    assert models.build(name, (3, least, least)).eval()(torch.randn(1, 3, least, least)).shape == (1, 10)


@pytest.mark.parametrize("shape", [(3, 32), (0, 8, 8), (3, 32.0, 32)])
def test_bad_input_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"input_shape must be \(channels, height, width\)"):
        models.build("linear", shape)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True])
def test_bad_number_of_classes(classes: int) -> None:
    with pytest.raises(ConfigError, match="classes must be a positive integer"):
        models.build("linear", classes=classes)


def test_torchvision_models_by_name() -> None:
    model = models.build("torchvision/mobilenet_v3_small", (3, 64, 64), 7).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_torchvision_models_without_auxiliary_heads_and_for_the_image_size() -> None:
    with torch.device("meta"):
        assert models.build("torchvision/googlenet", (3, 96, 96), init_weights=False).aux1 is None
        assert models.build("torchvision/vit_b_16", (3, 64, 64)).image_size == 64


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet18", MNIST, {}, "3 channels, and these have 1"),
        ("vit_b_16", (3, 32, 64), {}, "takes square images"),
        ("vit_b_16", (3, 30, 30), {}, "cannot be built"),
        ("resnet18", CIFAR, {"widht": 3}, "cannot be built.*widht"),
    ],
)
def test_torchvision_refusals(name: str, shape: tuple[int, int, int], options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=f"torchvision/{name}.*{message}"):
        models.build(f"torchvision/{name}", shape, **options)


def test_a_name_cannot_be_registered_twice() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        models.register("linear")(lambda input_shape, classes: nn.Identity())
