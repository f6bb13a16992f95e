"""The fused kernels of a training step: batch norm with ReLU and addition, cross-entropy, and what a step reads."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from torch import nn
from torch.nn import functional

from popnet import models, native
from popnet.models import normalisation
from popnet.models.normalisation import BatchNorm, BatchNormReLU, fused_batch_norm
from popnet.training.losses import fused_cross_entropy

needs_gpu = pytest.mark.skipif(
    not (native.cuda_compiled and torch.cuda.is_available()), reason="needs a CUDA device and a build with nvcc"
)
SHAPES = [(2, 3, 4, 5), (4, 16, 8, 8), (3, 64, 5, 7), (2, 65, 3, 3), (40, 8, 16, 16), (1, 200, 2, 1), (7, 2, 33, 40)]
FORMS = [(False, False), (True, False), (True, True)]


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


def layer(channels: int, dtype: torch.dtype = torch.float32) -> BatchNormReLU:
    norm = BatchNormReLU(channels).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * numbers(channels, seed=5))
        norm.bias.copy_(numbers(channels, seed=6))
    return norm


def forward(norm: BatchNormReLU, x: torch.Tensor, residual: torch.Tensor | None, relu: bool) -> native.NormResult:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    return native.batch_norm(
        *(x, norm.weight.detach(), norm.bias.detach(), norm.running_mean, norm.running_var, norm.num_batches_tracked),
        eps=norm.eps,
        momentum=0.1,
        relu=relu,
        residual=residual,
    )


def as_rows(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().permute(0, 2, 3, 1).reshape(-1, tensor.shape[1]).numpy()


# ---- batch norm: the stated arithmetic -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("relu", "add"), FORMS)
def test_batch_norm_is_the_stated_arithmetic(shape: tuple[int, ...], relu: bool, add: bool) -> None:
    norm, x, gradient = layer(shape[1]), 3 + 2 * numbers(*shape), numbers(*shape, seed=2)
    residual = numbers(*shape, seed=1) if add else None
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    got = forward(norm, x, residual, relu)
    rows = None if residual is None else as_rows(residual)
    y, mean, variance, inverse_sd = reference.batch_norm(as_rows(x), weight, bias, rows, eps=1e-5, relu=relu)
    np.testing.assert_array_equal(as_rows(got.y), y)
    np.testing.assert_array_equal(got.mean.numpy(), mean)
    np.testing.assert_array_equal(got.inverse_sd.numpy(), inverse_sd)
    count = len(y)
    running = (0.9 * np.ones(shape[1]) + 0.1 * (variance * (count / (count - 1)))).astype(np.float32)
    np.testing.assert_array_equal(norm.running_var.numpy(), running)  # type: ignore[union-attr]
    assert norm.num_batches_tracked == 1

    made = native.batch_norm_gradient(
        *(gradient, x, got.y, norm.weight.detach(), norm.bias.detach(), got.mean, got.inverse_sd), relu=relu, add=add
    )
    passed = y > 0 if relu else np.ones_like(y, bool)
    of_x, of_weight, of_bias = reference.batch_norm_gradient(
        as_rows(gradient), as_rows(x), passed, weight, mean, inverse_sd
    )
    np.testing.assert_array_equal(as_rows(made.x), of_x)
    np.testing.assert_array_equal(made.weight.numpy(), of_weight)
    np.testing.assert_array_equal(made.bias.numpy(), of_bias)
    assert (made.residual is not None) == add
    if made.residual is not None:
        np.testing.assert_array_equal(as_rows(made.residual), np.where(passed, as_rows(gradient), np.float32(0)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("relu", "add"), FORMS)
def test_low_precision_is_float32_inside(dtype: torch.dtype, relu: bool, add: bool) -> None:
    """The same result as in float32 from the same values, rounded once at the end."""
    shape = (6, 24, 5, 5)
    x, gradient = numbers(*shape, dtype=dtype), numbers(*shape, seed=2, dtype=dtype)
    residual = numbers(*shape, seed=1, dtype=dtype) if add else None
    low = forward(layer(24), x, residual, relu)
    high = forward(layer(24), x.float(), None if residual is None else residual.float(), relu)
    assert torch.equal(low.y, high.y.to(dtype))
    assert torch.equal(low.mean, high.mean)
    norm = layer(24)
    arguments = (norm.weight.detach(), norm.bias.detach(), low.mean, low.inverse_sd)
    a = native.batch_norm_gradient(gradient, x, low.y, *arguments, relu=relu, add=add)
    b = native.batch_norm_gradient(gradient.float(), x.float(), low.y.float(), *arguments, relu=relu, add=add)
    assert torch.equal(a.x, b.x.to(dtype))
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.bias, b.bias)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_pytorchs(dtype: torch.dtype) -> None:
    """Every half-precision number goes in and out as it is, and values between them round as torch rounds them."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.float().isfinite()]
    between = torch.cat([every.float() * factor for factor in (1.0, 1.0001, 1.0009765625, 0.9999)])
    between = torch.cat([between, torch.logspace(-12, 5, 4000), torch.tensor([65519.9, 65520.0, 1e9])])
    for values in (every, between.to(dtype)):
        x = values[: len(values) // 2 * 2].reshape(2, -1, 1, 1).contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        # mean and slope 0, scale 1: the gradient passes through
        zeros, ones = torch.zeros(channels), torch.ones(channels)
        out = native.batch_norm_gradient(x, torch.zeros_like(x), x, ones, zeros, zeros, ones, relu=True, add=True)
        assert out.residual is not None
        expected = torch.where(x > 0, x, torch.zeros_like(x))
        assert torch.equal(out.residual, expected)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(threads: int) -> None:
    norm, x, gradient = layer(48), numbers(9, 48, 33, 31), numbers(9, 48, 33, 31, seed=2)
    results = []
    for count in (1, threads):
        other = layer(48)
        made = native.batch_norm(
            *(x, norm.weight.detach(), norm.bias.detach(), other.running_mean, other.running_var),  # type: ignore
            other.num_batches_tracked,  # type: ignore[arg-type]
            eps=1e-5,
            momentum=0.1,
            relu=True,
            threads=count,
        )
        arguments = (gradient, x, made.y, norm.weight.detach(), norm.bias.detach(), made.mean, made.inverse_sd)
        results.append((made, native.batch_norm_gradient(*arguments, relu=True, threads=count)))
    (a, ga), (b, gb) = results
    assert torch.equal(a.y, b.y)
    assert torch.equal(ga.x, gb.x)
    assert torch.equal(ga.weight, gb.weight)


# ---- batch norm: PyTorch's, up to rounding ---------------------------------------------------------------------------


def gradients(function, x, residual, norm):
    leaves = [tensor.clone().requires_grad_() for tensor in (x, residual) if tensor is not None]
    norm.zero_grad()
    y = function(norm, *leaves)
    weights = numbers(*y.shape, seed=9).to(y.dtype)
    (y * weights).sum().backward()
    return [
        y.detach(),
        *(leaf.grad for leaf in leaves),
        norm.weight.grad,
        norm.bias.grad,
        norm.running_mean,
        norm.running_var,
    ]


def plain(norm, x, residual=None):
    y = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, 0.1, norm.eps)
    return functional.relu(y if residual is None else y + residual)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_equals_unfused(shape: tuple[int, ...], add: bool, dtype: torch.dtype) -> None:
    """Against PyTorch's operations in float64."""
    x, residual = 3 + numbers(*shape), numbers(*shape, seed=1) if add else None
    wide = layer(shape[1], torch.float64)
    expected = gradients(plain, x.double(), None if residual is None else residual.double(), wide)
    norm = layer(shape[1], dtype)
    got = gradients(
        lambda norm, x, residual=None: fused_batch_norm(norm, x, relu=True, residual=residual),
        *(x.to(dtype), None if residual is None else residual.to(dtype), norm),
    )
    tolerance = (
        1e-10 if dtype == torch.float64 else 1e-3 if x.numel() < 1000 else 1e-5
    )  # few values a channel can lie close together
    for ours, theirs in zip(got, expected, strict=True):
        scale = theirs.abs().max().clamp(min=1.0)
        assert ((ours.double() - theirs).abs().max() / scale) < tolerance


@pytest.mark.parametrize("add", [False, True])
def test_gradients_in_float64(add: bool) -> None:
    x = numbers(3, 5, 4, 2, dtype=torch.float64).requires_grad_()
    residual = numbers(3, 5, 4, 2, seed=1, dtype=torch.float64).requires_grad_() if add else None

    def function(x, weight, bias, *rest):
        norm = layer(5, torch.float64)
        del norm.weight, norm.bias
        norm.weight, norm.bias = weight, bias
        return norm(x, *rest)

    norm = layer(5, torch.float64)
    inputs = [x, norm.weight.detach().requires_grad_(), norm.bias.detach().requires_grad_()]
    assert torch.autograd.gradcheck(function, [*inputs, *([residual] if residual is not None else [])])


def test_a_large_mean_keeps_the_variance() -> None:
    norm = layer(8)
    x = 1000 + numbers(8, 8, 16, 16)
    got = forward(norm, x, None, relu=False)
    expected = x.double().var(dim=(0, 2, 3), unbiased=False) + norm.eps
    assert torch.allclose(got.inverse_sd.double() ** -2, expected, rtol=1e-5)


def test_constant_channels_and_nan() -> None:
    x = torch.full((4, 8, 2, 2), 3.0).contiguous(memory_format=torch.channels_last)
    norm = layer(8)
    got = forward(norm, x, None, relu=False)
    assert torch.equal(got.y, norm.bias.detach().view(1, 8, 1, 1).expand_as(x))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        broken = x.to(dtype)
        broken[1, 2, 0, 0] = float("nan")
        y = forward(layer(8), broken, None, relu=True).y
        assert y[:, 2].isnan().all()
        assert y[:, [0, 1, 3]].isfinite().all()


# ---- the modules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small_cnn", "resnet14", "resnet9", "vgg11", "shufflenet"])
def test_models_fused_equal_models_unfused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole training step with the fused norms and loss, in float64, where both must agree to rounding."""
    torch.manual_seed(3)
    size = 32 if name == "vgg11" else 12
    if name == "shufflenet":  # a small one: PyTorch is slow at depthwise convolutions in float64
        model = models.shufflenet.ShuffleNetV2((3, size, size), 10, widths=(8, 16, 32), basic_blocks=(1,))
    else:
        model = models.build(name, input_shape=(3, size, size))
    model = model.double().to(memory_format=torch.channels_last)
    images, labels = numbers(4, 3, size, size, dtype=torch.float64), torch.tensor([1, 7, 0, 3])
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def step(loss):
        model.load_state_dict(state)
        model.zero_grad()
        loss(model(images), labels).backward()
        grads = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
        return grads | {key: value.clone() for key, value in model.state_dict().items()}

    got = step(fused_cross_entropy)
    monkeypatch.setattr(normalisation, "_fuses", lambda norm, x: False)
    expected = step(functional.cross_entropy)
    for key, value in expected.items():
        assert torch.allclose(got[key], value, rtol=1e-7, atol=1e-9), key


def is_fused(y: torch.Tensor) -> bool:
    return y.grad_fn is not None and y.grad_fn.name() == "_FusedBackward"


def test_modules_are_named_as_pytorchs() -> None:
    assert (
        BatchNormReLU(8).state_dict().keys()
        == BatchNorm(8).state_dict().keys()
        == nn.BatchNorm2d(8).state_dict().keys()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_training_is_fused(dtype: torch.dtype) -> None:
    x, residual = numbers(4, 8, 5, 5, dtype=dtype), numbers(4, 8, 5, 5, seed=1, dtype=dtype)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    norm, plain_norm = BatchNormReLU(8).to(real), BatchNorm(8).to(real)
    assert all(is_fused(y) for y in (norm(x), norm(x, residual), plain_norm(x)))
    assert not any(is_fused(y) for y in (norm.eval()(x), plain_norm.eval()(x)))


def test_training_under_autocast_is_fused() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), BatchNormReLU(8))
    with torch.autocast("cpu", torch.bfloat16):
        y = layers(numbers(4, 3, 5, 5))
    assert is_fused(y)
    assert y.dtype == torch.bfloat16
    assert layers[1].running_mean.dtype == torch.float32


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_training_is_pytorchs_up_to_rounding(add: bool, dtype: torch.dtype, tolerance: float) -> None:
    """On average: where PyTorch rounds norm(x) before it adds, a sum near 0 can fall on the other side of the ReLU."""
    x, residual = numbers(8, 16, 9, 9, dtype=dtype), numbers(8, 16, 9, 9, seed=1, dtype=dtype) if add else None
    expected = gradients(plain, x, residual, layer(16))
    got = gradients(lambda norm, *inputs: norm(*inputs), x, residual, layer(16))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        scale = theirs.abs().max().clamp(min=1.0)
        assert ((ours.double() - theirs.double()).abs().mean() / scale) < tolerance


@pytest.mark.parametrize("add", [False, True])
def test_neither_threads_nor_layout_change_a_bit(add: bool) -> None:
    x, residual = numbers(9, 48, 33, 31), numbers(9, 48, 33, 31, seed=1) if add else None
    wide = torch.zeros(9, 48, 66, 31)
    wide[:, :, ::2] = x
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for same in (x, x.contiguous(), wide[:, :, ::2]):
                other = residual if residual is None or same is x else residual.contiguous()
                found.append(gradients(lambda norm, *inputs: norm(*inputs), same, other, layer(48)))
    finally:
        torch.set_num_threads(before)
    for results in found[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(results, found[0], strict=True))


@pytest.mark.parametrize("options", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_what_the_kernels_do_not_cover_is_pytorchs(options: dict[str, object]) -> None:
    x, residual = numbers(4, 8, 5, 5), numbers(4, 8, 5, 5, seed=1)
    norm, twin = BatchNormReLU(8, **options), nn.BatchNorm2d(8, **options)  # type: ignore[arg-type]
    assert torch.equal(norm(x), functional.relu(twin(x)))
    assert torch.equal(norm(x, residual), functional.relu(twin(x) + residual))
    assert torch.equal(norm.eval()(x, residual), functional.relu(twin.eval()(x) + residual))
    assert torch.equal(BatchNorm(8, **options)(x), nn.BatchNorm2d(8, **options)(x))  # type: ignore[arg-type]


def test_other_types_are_pytorchs() -> None:
    x, residual = numbers(4, 8, 5, 5), numbers(4, 8, 5, 5, seed=1, dtype=torch.float64)
    norm, twin = BatchNormReLU(8), nn.BatchNorm2d(8)
    assert torch.equal(norm(x, residual), functional.relu(twin(x) + residual))
    low = x.bfloat16()
    assert torch.equal(norm.bfloat16()(low), functional.relu(twin.bfloat16()(low)))


def test_one_row_and_other_shapes_are_refused_as_by_pytorch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNormReLU(8)(numbers(1, 8, 1, 1))
    for shape in ((4, 8), (4, 8, 5), (8,)):
        with pytest.raises(ValueError, match="expected 4D input"):
            BatchNorm(8)(numbers(*shape))


# ---- cross-entropy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("examples", "classes"), [(1, 1), (1, 2), (7, 3), (512, 10), (300, 33), (5, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_and_its_gradient(examples: int, classes: int, dtype: torch.dtype) -> None:
    logits = (5 * numbers(examples, classes)).to(dtype)
    labels = torch.arange(examples) % classes
    loss, gradient = native.cross_entropy(logits, labels)
    expected, expected_gradient = reference.cross_entropy_gradient(logits.numpy(), labels.numpy())
    tolerance = {"rtol": 1e-13, "atol": 1e-15} if dtype == torch.float64 else {"rtol": 1e-7, "atol": 1e-8}
    np.testing.assert_allclose(loss.numpy(), [expected], **tolerance)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, **tolerance)
    again = native.cross_entropy(logits, labels, threads=3)
    assert torch.equal(loss, again[0])
    assert torch.equal(gradient, again[1])


def test_cross_entropy_gradient_in_float64() -> None:
    labels = torch.tensor([0, 2, 1, 2])
    assert torch.autograd.gradcheck(
        lambda z: fused_cross_entropy(z, labels), numbers(4, 3, dtype=torch.float64).requires_grad_()
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_cross_entropy_of_what_is_not_finite(bad: float) -> None:
    logits = numbers(3, 4)
    logits[1] = bad
    loss, _ = native.cross_entropy(logits, torch.tensor([0, 1, 2]))
    assert loss.isnan().all()


def test_extreme_logits() -> None:
    logits = torch.tensor([[1e30, -1e30, 0.0], [-3e4, 0.0, 3e4]])
    loss, gradient = native.cross_entropy(logits, torch.tensor([0, 2]))
    assert loss == 0.0
    assert gradient.abs().max() == 0.0


def test_wrong_labels_are_named() -> None:
    with pytest.raises(IndexError, match=r"labels\[1\] is 4, but must be in 0 .. 3"):
        native.cross_entropy(numbers(2, 4), torch.tensor([0, 4]))


# ---- what a step reads from memory -----------------------------------------------------------------------------------


def table(steps: int) -> torch.Tensor:
    rows = np.zeros(steps, native.STEP_VALUES)
    rows["augment_seed"], rows["stochastic_seed"] = 2**40 + np.arange(steps), 5 + np.arange(steps)
    rows["rate"] = 0.3 / (1 + np.arange(steps))
    t = np.arange(1, steps + 1)
    rows["first_correction"], rows["second_correction"] = 1 - 0.9**t, np.sqrt(1 - 0.999**t)
    rows["epoch"], rows["step"] = 3, np.arange(steps)
    return torch.from_numpy(rows.view(np.int64).reshape(steps, native.STEP_WORDS).copy())


def test_a_step_reads_its_values_where_they_stand() -> None:
    rows, order, labels = table(3), torch.tensor([4, 1, 0, 3, 2, 5, 6]), torch.arange(7) * 10
    position, losses = torch.zeros(1, dtype=torch.int64), torch.zeros(3)
    now = torch.zeros(native.STEP_WORDS, dtype=torch.int64)
    images = torch.arange(7 * 6 * 6 * 3).to(torch.uint8).reshape(7, 6, 6, 3)
    constants = {"mean": [0.5] * 3, "std": [0.25] * 3, "crop": 1, "flip": True}
    segments = native.segments([(0, 5, 0.1, 1e-3), (64, 7, 1.0, 0.0)])
    for step, count in enumerate((3, 3, 1)):
        indices, batch_labels = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
        native.begin_step(rows, order, labels, position, 3, now=now, indices=indices, labels=batch_labels)
        assert torch.equal(now, rows[step])
        assert torch.equal(indices, order[3 * step : 3 * step + count])
        assert torch.equal(batch_labels, 10 * indices)
        values = rows[step].numpy().view(native.STEP_VALUES)[0]
        seeds = {"seed": int(values["augment_seed"]), "epoch": 3}
        out = [torch.empty(count, 3, 6, 6) for _ in range(2)]
        native.augment(images, indices, out[0], seed=0, epoch=0, now=now, **constants)
        native.augment(images, indices, out[1], **seeds, **constants)
        assert torch.equal(*out)
        masks = [
            native.dropout_mask(indices, 40, p=0.5, seed=0, step=0, layer=2, now=now),
            native.dropout_mask(indices, 40, p=0.5, seed=int(values["stochastic_seed"]), step=step, layer=2),
        ]
        assert torch.equal(*masks)
        for given in ({"lr": 1.0, "now": now}, {"lr": float(values["rate"])}):
            out.append(numbers(128))
            native.sgd_step(out[-1], numbers(128, seed=1), numbers(128, seed=2), segments, momentum=0.9, **given)
        assert torch.equal(out[-1], out[-2])
        for given in ({"lr": 1.0, "step": 1, "now": now}, {"lr": float(values["rate"]), "step": step + 1}):
            out.append(numbers(128))
            buffers = [numbers(128, seed=seed).abs() for seed in (1, 2, 3)]
            native.adam_step(out[-1], *buffers, segments, **given)
        assert torch.equal(out[-1], out[-2])
        native.end_step(torch.tensor([0.5 + step]), losses, position)
    assert position == 3
    assert losses.tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_a_skipped_step_moves_nothing_but_clears_the_gradients(skip: float) -> None:
    segments = native.segments([(0, 64, 1.0, 1e-3)])
    before = numbers(64)
    for step in ("sgd", "adam"):
        parameters, gradients = before.clone(), numbers(64, seed=1)
        moments = [numbers(64, seed=seed).abs() for seed in (2, 3)]
        kept = [moment.clone() for moment in moments]
        if step == "sgd":
            native.sgd_step(
                parameters, gradients, moments[0], segments, lr=0.1, momentum=0.9, skip=torch.tensor([skip])
            )
        else:
            native.adam_step(parameters, gradients, *moments, segments, lr=0.1, step=3, skip=torch.tensor([skip]))
        assert torch.equal(parameters, before) == bool(skip)
        assert torch.equal(moments[0], kept[0]) == bool(skip)
        assert not gradients.any()


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_named() -> None:
    norm = layer(4)
    with pytest.raises(ValueError, match="x must be channels_last"):
        forward(norm, torch.randn(2, 4, 3, 3), None, relu=True)
    with pytest.raises(ValueError, match="weight has 4 value"):
        forward(norm, numbers(2, 5, 3, 3), None, relu=True)
    with pytest.raises(ValueError, match="at least 2 values a channel"):
        forward(norm, numbers(1, 4, 1, 1), None, relu=True)
    with pytest.raises(ValueError, match="residual must be"):
        forward(norm, numbers(2, 4, 3, 3), numbers(2, 4, 3, 2), relu=True)
    with pytest.raises(ValueError, match="as many examples"):
        native.cross_entropy(numbers(2, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match="now must be int64"):
        native.dropout_mask(torch.tensor([1]), 4, p=0.5, seed=1, step=0, layer=0, now=torch.zeros(2, dtype=torch.int64))


# ---- CUDA: the same bits ---------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("shape", [*SHAPES, (512, 16, 32, 32), (64, 512, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("relu", "add"), FORMS)
def test_batch_norm_on_cuda_is_the_same(shape: tuple[int, ...], dtype: torch.dtype, relu: bool, add: bool) -> None:
    real = torch.float64 if dtype == torch.float64 else torch.float32
    x, gradient = numbers(*shape, dtype=dtype), numbers(*shape, seed=2, dtype=dtype)
    residual = numbers(*shape, seed=1, dtype=dtype) if add else None
    found = []
    for device in ("cpu", "cuda"):
        norm = layer(shape[1], real).to(device)
        made = forward(norm, x.to(device), None if residual is None else residual.to(device), relu)
        back = native.batch_norm_gradient(
            *(gradient.to(device), x.to(device), made.y, norm.weight.detach(), norm.bias.detach()),
            *(made.mean, made.inverse_sd),
            relu=relu,
            add=add,
        )
        tensors = [made.y, made.mean, made.inverse_sd, norm.running_mean, norm.running_var, norm.num_batches_tracked]
        tensors += [back.x, back.weight, back.bias, *([back.residual] if add else [])]
        found.append([tensor.cpu() for tensor in tensors])  # type: ignore[union-attr]
    for on_cpu, on_cuda in zip(*found, strict=True):
        assert torch.equal(on_cpu, on_cuda)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("examples", "classes"), [(1, 1), (7, 3), (512, 10), (300, 33), (5, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_on_cuda_is_the_same(examples: int, classes: int, dtype: torch.dtype) -> None:
    logits, labels = (5 * numbers(examples, classes)).to(dtype), torch.arange(examples) % classes
    on_cpu, on_cuda = native.cross_entropy(logits, labels), native.cross_entropy(logits.cuda(), labels.cuda())
    assert torch.equal(on_cpu[0], on_cuda[0].cpu())
    assert torch.equal(on_cpu[1], on_cuda[1].cpu())
    labels[0] = classes
    assert native.cross_entropy(logits.cuda(), labels.cuda())[0].isnan().all()


@pytest.mark.gpu
@needs_gpu
def test_a_step_on_cuda_reads_the_same() -> None:
    order, labels = torch.randperm(1000), torch.arange(1000) * 3
    found = []
    for device in ("cpu", "cuda"):
        rows, position = table(4).to(device), torch.tensor([2], device=device)
        now, losses = torch.zeros(native.STEP_WORDS, dtype=torch.int64, device=device), torch.zeros(4, device=device)
        indices, batch = (torch.zeros(300, dtype=torch.int64, device=device) for _ in range(2))
        native.begin_step(
            rows, order.to(device), labels.to(device), position, 300, now=now, indices=indices, labels=batch
        )
        buffers = [numbers(128, seed=seed).abs().to(device) for seed in range(4)]
        segments = native.segments([(0, 50, 0.1, 1e-3), (64, 60, 1.0, 0.0)])
        native.sgd_step(*buffers[:3], segments, lr=0.0, momentum=0.9, now=now)
        native.adam_step(*buffers, segments, lr=0.0, step=1, now=now)
        skipped = buffers[0].clone()
        native.sgd_step(*buffers[:3], segments, lr=0.0, momentum=0.9, now=now, skip=torch.ones(1, device=device))
        assert torch.equal(skipped, buffers[0])
        mask = native.dropout_mask(indices, 40, p=0.5, seed=0, step=0, layer=2, now=now)
        native.end_step(torch.tensor([1.5], device=device), losses, position)
        found.append([tensor.cpu() for tensor in (now, indices, batch, *buffers, mask, losses, position)])
    for on_cpu, on_cuda in zip(*found, strict=True):
        assert torch.equal(on_cpu, on_cuda)
