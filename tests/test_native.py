"""The native kernels against their NumPy oracles, bit for bit; layouts, threads, isolation of draws, error messages."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popnet import native
from popnet.random import Source, permutation

needs_gpu = pytest.mark.skipif(
    not (native.cuda_compiled and torch.cuda.is_available()),
    reason="needs a CUDA device and a build with nvcc",
)
FLOATS = [torch.float32, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def image_set(count, height, width, channels, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def constants(channels):
    """A mean and a standard deviation per channel, unlike each other."""
    return {
        "mean": [0.4914 - 0.013 * c for c in range(channels)],
        "std": [0.247 + 0.0071 * c for c in range(channels)],
    }


def empty(batch, images, dtype=torch.float32, layout=torch.contiguous_format, device="cpu"):
    _, height, width, channels = images.shape
    out = torch.full((batch, channels, height, width), float("nan"), dtype=dtype, device=device)
    return out.to(memory_format=layout)


def bits(tensor):
    """The bit patterns of a float tensor, as a NumPy array of its logical shape."""
    integer = torch.int16 if tensor.dtype == torch.bfloat16 else torch.int32
    return tensor.detach().cpu().contiguous().view(integer).numpy()


def expected_bits(values, dtype):
    """The same from float32 [b, h, w, c], as [b, c, h, w]."""
    values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    return reference.bfloat16_bits(values).view(np.int16) if dtype == torch.bfloat16 else values.view(np.int32)


def run(function, images, indices, dtype=torch.float32, layout=torch.contiguous_format, device="cpu", **options):
    """Calls augment or view on NumPy arrays."""
    out = empty(len(indices), images, dtype, layout, device)
    images, indices = (
        torch.tensor(images, device=device),
        torch.tensor(indices, dtype=torch.int64, device=device),
    )
    returned = function(images, indices, out, **options)
    assert returned is out
    return out


# ---- augmentation ----------------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4, 5, 16]))


@st.composite
def augmentations(draw):
    height, width, channels = draw(shapes)
    options = {
        "seed": draw(st.integers(0, 2**64 - 1)),
        "epoch": draw(st.integers(0, 2**32 - 1)),
        "crop": draw(st.integers(0, 6)),
        "flip": draw(st.booleans()),
        "translate": draw(st.integers(0, 6)),
        "cutout": draw(st.integers(0, min(height, width))),
        "fill": draw(st.none() | st.lists(st.integers(0, 255), min_size=channels, max_size=channels)),
    }
    return image_set(5, height, width, channels), options


@settings(max_examples=60, deadline=None)
@given(
    augmentations(),
    st.lists(st.integers(0, 4), min_size=0, max_size=4),
    st.sampled_from(FLOATS),
    st.sampled_from(LAYOUTS),
    st.integers(1, 3),
)
def test_augment_equals_reference(case, indices, dtype, layout, threads):
    images, options = case
    options |= constants(images.shape[3])
    got = run(native.augment, images, indices, dtype, layout, threads=threads, **options)
    assert np.array_equal(bits(got), expected_bits(reference.augment(images, indices, **options), dtype))


@settings(max_examples=60, deadline=None)
@given(
    shapes,
    st.integers(-45, 45),
    st.integers(-45, 45),
    st.booleans(),
    st.sampled_from(FLOATS),
    st.sampled_from(LAYOUTS),
)
def test_view_equals_reference(shape, dy, dx, flip, dtype, layout):
    images = image_set(3, *shape)
    options = constants(shape[2]) | {"dy": dy, "dx": dx, "flip": flip}
    got = run(native.view, images, [2, 0], dtype, layout, **options)
    assert np.array_equal(bits(got), expected_bits(reference.view(images, [2, 0], **options), dtype))


@pytest.mark.parametrize("shape", [(224, 224, 3), (97, 131, 3), (3, 9000, 1), (2, 3000, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_images_span_several_strips(shape, layout):
    """Against the view of plain PyTorch slices, as the oracle would take minutes."""
    images = image_set(2, *shape)
    got = run(native.view, images, [1], layout=layout, dy=1, dx=-2, flip=True, **constants(shape[2]))
    moved = np.zeros_like(images[1])
    moved[:-1, 2:] = images[1][1:, :-2]
    wanted = reference.normalise(moved[None, :, ::-1], **constants(shape[2]))
    assert np.array_equal(bits(got), expected_bits(wanted, torch.float32))


def test_view_offsets_are_those_of_a_crop_from_the_padded_image():
    images = image_set(1, 7, 9, 3)
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)))
    for oy in range(5):
        for ox in range(5):
            got = run(native.view, images, [0], dy=oy - 2, dx=ox - 2, **constants(3))
            wanted = reference.normalise(padded[None, oy : oy + 7, ox : ox + 9], **constants(3))
            assert np.array_equal(bits(got), expected_bits(wanted, torch.float32))


def test_normalisation_is_torchvisions_to_a_few_ulp():
    """Every pixel value; one fused multiply-add against ToTensor and Normalize."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    got = run(native.view, images, [0], mean=[0.4914], std=[0.247]).flatten()
    wanted = ((torch.arange(256).float() / 255) - 0.4914) / 0.247
    assert torch.allclose(got, wanted, rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_augment_does_not_depend_on_threads_order_or_batch(dtype, layout):
    images = image_set(50, 32, 32, 3)
    options = constants(3) | {"seed": 11, "epoch": 4, "crop": 4, "flip": True, "translate": 2, "cutout": 5}
    order = permutation(1, 0, 50)
    one = bits(run(native.augment, images, order, dtype, layout, **options))
    for threads in (2, 3, 64):
        many = run(native.augment, images, order, dtype, layout, threads=threads, **options)
        assert np.array_equal(one, bits(many))
    straight = bits(run(native.augment, images, np.arange(50), dtype, layout, **options))
    assert np.array_equal(one, straight[order])
    for index in (0, 17, 49):  # a batch of one
        alone = bits(run(native.augment, images, [index], dtype, layout, **options))
        assert np.array_equal(alone[0], straight[index])


def decode(images, **options):
    """What each augmentation did, read off images whose pixel (y, x) has value 16 y + x + 1 (zero: from outside)."""
    marks = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1).repeat(images, axis=0)
    out = run(native.augment, marks, np.arange(images), seed=3, epoch=1, mean=[0.0], std=[1.0], **options)
    return np.rint(out.numpy()[:, 0] * 255).astype(int)


def test_switching_one_operation_changes_no_other_draw():
    flips = decode(200, flip=True)[:, 0, 0] == 8
    assert 70 < flips.sum() < 130

    cropped = decode(200, crop=2, flip=True)
    along_row = cropped[:, 4, 5] - cropped[:, 4, 4]  # +1, or -1 where mirrored
    assert np.array_equal(along_row == -1, flips)

    unflipped = decode(200, crop=2)
    assert np.array_equal(cropped[~flips], unflipped[~flips])
    assert np.array_equal(cropped[flips], unflipped[flips][:, :, ::-1])

    moved = decode(200, translate=2)
    moved_and_flipped = decode(200, translate=2, flip=True)
    assert np.array_equal(moved_and_flipped[~flips], moved[~flips])

    cut = decode(200, cutout=3, fill=[255])
    everything = decode(200, crop=2, flip=True, translate=2, cutout=3, fill=[255])
    assert np.array_equal(cut == 255, everything == 255)
    assert ((cut == 255).sum(axis=(1, 2)) == 9).all()


def test_draws_cover_their_ranges_evenly():
    corners = decode(20_000, crop=1)[:, 4, 4]  # which of nine pixels landed there
    values, counts = np.unique(corners, return_counts=True)
    assert values.tolist() == [28, 29, 30, 36, 37, 38, 44, 45, 46]
    assert ((counts - 20_000 / 9) ** 2 / (20_000 / 9)).sum() < 38  # chi-square, 8 degrees of freedom, p about 1e-5


def test_epochs_and_seeds_differ():
    images = image_set(20, 8, 8, 3)
    options = constants(3) | {"crop": 2, "flip": True}
    base = bits(run(native.augment, images, np.arange(20), seed=1, epoch=0, **options))
    for other in ({"seed": 1, "epoch": 1}, {"seed": 2, "epoch": 0}, {"seed": 1 + 2**32, "epoch": 0}):
        assert not np.array_equal(base, bits(run(native.augment, images, np.arange(20), **other, **options)))


def test_indices_outside_the_image_set():
    images = image_set(4, 8, 8, 3)
    for bad in (-1, 4):
        with pytest.raises(IndexError, match=rf"indices\[1\] is {bad}, but there are 4 images"):
            run(native.augment, images, [0, bad], seed=1, epoch=0, **constants(3))


def augment_call(**changed):
    """Calls augment with good arguments but for `changed`."""
    images = torch.zeros((4, 8, 6, 3), dtype=torch.uint8)
    arguments = {
        "images": images,
        "indices": torch.arange(2),
        "out": torch.empty((2, 3, 8, 6)),
        "seed": 1,
        "epoch": 0,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    } | changed
    return native.augment(**arguments)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"images": np.zeros((4, 8, 6, 3), np.uint8)},
            TypeError,
            "images must be a torch tensor, not ndarray",
        ),
        ({"images": torch.zeros((4, 8, 6, 3))}, TypeError, "images must be torch.uint8, not torch.float32"),
        ({"images": torch.zeros((4, 8, 6), dtype=torch.uint8)}, ValueError, "images must have 4 dimension"),
        (
            {"images": torch.zeros((4, 3, 8, 6), dtype=torch.uint8).permute(0, 2, 3, 1)},
            ValueError,
            "images must be contiguous, but has strides",
        ),
        (
            {"images": torch.zeros((4, 8, 6, 17), dtype=torch.uint8)},
            ValueError,
            "17 channels, but must have 1 .. 16",
        ),
        (
            {"indices": torch.arange(2, dtype=torch.int32)},
            TypeError,
            "indices must be torch.int64, not torch.int32",
        ),
        ({"indices": torch.arange(4)[::2]}, ValueError, "indices must be contiguous"),
        ({"indices": torch.zeros((2, 1), dtype=torch.int64)}, ValueError, "indices must have 1 dimension"),
        (
            {"out": torch.empty((2, 8, 6, 3))},
            ValueError,
            r"out must have shape .* \[2, 3, 8, 6\], not \[2, 8, 6, 3\]",
        ),
        (
            {"out": torch.empty((2, 3, 8, 6), dtype=torch.float16)},
            TypeError,
            "out must be .*bfloat16, not .*float16",
        ),
        (
            {"out": torch.empty((2, 3, 8, 12))[..., ::2]},
            ValueError,
            "out must be contiguous or channels_last",
        ),
        (
            {"out": torch.empty((2, 3, 8, 6), device="meta")},
            ValueError,
            "out must be on the CPU or a CUDA device",
        ),
        ({"seed": -3}, ValueError, "seed is -3"),
        ({"epoch": 2**32}, ValueError, "epoch is 4294967296"),
        ({"crop": -1}, ValueError, "crop is -1, but must be in 0"),
        ({"crop": 0.5}, TypeError, "crop must be an integer, not float"),
        ({"translate": -1}, ValueError, "translate is -1"),
        ({"cutout": 7}, ValueError, r"cutout is 7, but must be in 0 \.\. 6"),
        ({"fill": [1, 2]}, ValueError, r"fill has 2 value\(s\), but images have 3 channel"),
        ({"fill": [1, 2, 256]}, ValueError, r"fill is 256, but must be in 0 \.\. 255"),
        ({"mean": [0.5]}, ValueError, r"mean has 1 value\(s\), but images have 3"),
        ({"std": [0.5, 0.5, 0.0]}, ValueError, "std is 0.0, but must be in"),
        ({"std": [0.5, 0.5, float("nan")]}, ValueError, "std is nan, but must be in"),
        ({"std": [0.5, 0.5, "x"]}, TypeError, "std must be a number, not str"),
        ({"threads": 0}, ValueError, "threads is 0, but must be in 1"),
    ],
)
def test_augment_errors_name_the_argument(changed, error, message):
    with pytest.raises(error, match=message):
        augment_call(**changed)


def test_view_errors_name_the_argument():
    images = torch.zeros((1, 4, 4, 1), dtype=torch.uint8)
    with pytest.raises(ValueError, match="dy is 40000, but must be in"):
        native.view(images, torch.arange(1), torch.empty((1, 1, 4, 4)), mean=[0], std=[1], dy=40_000)


# ---- optimisers ------------------------------------------------------------------------------------------------------

ROWS = [
    (0, 100, 1.0, 5e-4),
    (128, 1, 2.0, 0.0),
    (160, 37, 64.0, 5e-4 / 64),
    (256, 0, 1.0, 0.0),
    (256, 1000, 1.0, 0.0),
]
SIZE = 1300


def flat(seed, size=SIZE):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(size).astype(np.float32))


def covered():
    mask = np.zeros(SIZE, bool)
    for offset, length, *_ in ROWS:
        mask[offset : offset + length] = True
    return mask


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_sgd_equals_reference_and_leaves_padding(nesterov, threads):
    p, g, m = flat(1), flat(2), flat(3)
    before, gradient = [p.numpy().copy(), m.numpy().copy()], g.numpy().copy()
    options = {"lr": 0.123, "momentum": 0.9, "nesterov": nesterov}
    native.sgd_step(p, g, m, native.segments(ROWS), threads=threads, **options)
    wanted = reference.sgd(before[0], gradient, before[1], ROWS, **options)
    assert np.array_equal(bits(p), wanted[0].view(np.int32))
    assert np.array_equal(bits(m), wanted[1].view(np.int32))
    assert np.array_equal(g.numpy(), np.where(covered(), 0, gradient))


@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.0), (False, 0.9), (True, 0.9)])
def test_sgd_is_torchs_to_rounding(nesterov, momentum):
    p, m, schedule = flat(1), torch.zeros(SIZE), [0.4, 0.3, 0.2, 0.1, 0.05]
    tensors = [p[o : o + n].clone().requires_grad_() for o, n, *_ in ROWS]
    groups = [{"params": [t], "weight_decay": d} for t, (*_, d) in zip(tensors, ROWS)]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov)
    prepared = native.segments(ROWS)
    for step, lr in enumerate(schedule):
        g = flat(100 + step)
        for tensor, group, (offset, length, multiplier, _) in zip(tensors, optimiser.param_groups, ROWS):
            tensor.grad = g[offset : offset + length].clone()
            group["lr"] = lr * multiplier
        optimiser.step()
        native.sgd_step(p, g, m, prepared, lr=lr, momentum=momentum, nesterov=nesterov, zero_grad=False)
        assert torch.equal(g, flat(100 + step))
    for tensor, (offset, length, *_) in zip(tensors, ROWS):
        torch.testing.assert_close(p[offset : offset + length], tensor.detach(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_adam_equals_reference_and_leaves_padding(threads):
    p, g, m, v = flat(1), flat(2), flat(3), flat(4).abs()
    before, gradient = [b.numpy().copy() for b in (p, m, v)], g.numpy().copy()
    options = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": 3}
    native.adam_step(p, g, m, v, native.segments(ROWS), threads=threads, **options)
    wanted = reference.adam(before[0], gradient, before[1], before[2], ROWS, **options)
    for got, want in zip((p, m, v), wanted):
        assert np.array_equal(bits(got), want.view(np.int32))
    assert np.array_equal(g.numpy(), np.where(covered(), 0, gradient))


def test_adam_is_torchs_to_rounding():
    p, m, v = flat(1), torch.zeros(SIZE), torch.zeros(SIZE)
    tensors = [p[o : o + n].clone().requires_grad_() for o, n, *_ in ROWS]
    groups = [{"params": [t], "weight_decay": d, "lr": 1e-2 * k} for t, (_, _, k, d) in zip(tensors, ROWS)]
    optimiser = torch.optim.Adam(groups)
    prepared = native.segments(ROWS)
    for step in range(1, 6):
        g = flat(100 + step)
        for tensor, (offset, length, *_) in zip(tensors, ROWS):
            tensor.grad = g[offset : offset + length].clone()
        optimiser.step()
        native.adam_step(p, g, m, v, prepared, lr=1e-2, step=step)
    for tensor, (offset, length, *_) in zip(tensors, ROWS):
        torch.testing.assert_close(p[offset : offset + length], tensor.detach(), rtol=5e-6, atol=5e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 70)), max_size=150), st.integers(1, 3))
def test_sgd_with_any_segments(gaps_and_lengths, threads):
    rows, end = [], 0
    for number, (gap, length) in enumerate(gaps_and_lengths):
        rows.append((end + gap, length, 1.0 + number, 1e-3 * number))
        end += gap + length
    p, g, m = flat(1, end + 3), flat(2, end + 3), flat(3, end + 3)
    options = {"lr": 0.01, "momentum": 0.5, "nesterov": True}
    wanted = reference.sgd(p.numpy(), g.numpy(), m.numpy(), rows, **options)
    native.sgd_step(p, g, m, native.segments(rows), threads=threads, **options)
    assert np.array_equal(bits(p), wanted[0].view(np.int32))
    assert np.array_equal(bits(m), wanted[1].view(np.int32))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"parameters": np.zeros(9)}, TypeError, "parameters must be a torch tensor"),
        (
            {"gradients": torch.zeros(9, dtype=torch.float64)},
            TypeError,
            "gradients must be torch.float32, not",
        ),
        ({"gradients": torch.zeros(8)}, ValueError, "gradients has 8 elements, but the segments reach to 9"),
        ({"gradients": torch.zeros(10)}, ValueError, "gradients has 10 elements, but parameters has 9"),
        ({"momentum_buffer": torch.zeros((3, 3))}, ValueError, "momentum_buffer must have 1 dimension"),
        ({"momentum_buffer": torch.zeros(18)[::2]}, ValueError, "momentum_buffer must be contiguous"),
        ({"segments": [(0, 9, 1.0, 0.0)]}, TypeError, "segments must come from popnet.native.segments"),
        ({"lr": float("nan")}, ValueError, "lr is nan"),
        ({"lr": None}, TypeError, "lr must be a number, not NoneType"),
        ({"momentum": -0.1}, ValueError, "momentum is -0.1, but must be in"),
        ({"threads": 0}, ValueError, "threads is 0"),
    ],
)
def test_sgd_errors_name_the_argument(changed, error, message):
    arguments = {
        "parameters": torch.zeros(9),
        "gradients": torch.zeros(9),
        "momentum_buffer": torch.zeros(9),
        "segments": native.segments([(0, 9, 1.0, 0.0)]),
        "lr": 0.1,
        "momentum": 0.9,
    } | changed
    with pytest.raises(error, match=message):
        native.sgd_step(**arguments)


def test_overlapping_buffers_and_segments_are_refused():
    buffer = torch.zeros(9)
    with pytest.raises(ValueError, match="overlaps"):
        native.sgd_step(buffer, buffer, torch.zeros(9), native.segments([(0, 9, 1, 0)]), lr=1, momentum=0)
    with pytest.raises(ValueError, match="one ends at 9, the next begins at 8"):
        native.segments([(0, 9, 1.0, 0.0), (8, 2, 1.0, 0.0)])
    with pytest.raises(ValueError, match=r"weight decay is -1\.0"):
        native.segments([(0, 9, 1.0, -1.0)])
    buffers, whole = [torch.zeros(9) for _ in range(4)], native.segments([(0, 9, 1, 0)])
    with pytest.raises(ValueError, match="step is 0, but must be in 1"):
        native.adam_step(*buffers, whole, lr=1, step=0)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
    st.integers(0, 300),
    st.sampled_from([0.0, 0.1, 0.5, 0.999, 1.0]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**24 - 1),
    st.sampled_from(FLOATS),
    st.integers(1, 3),
)
def test_dropout_equals_reference(ids, elements, p, seed, step, layer, dtype, threads):
    options = {"p": p, "seed": seed, "step": step, "layer": layer}
    got = native.dropout_mask(torch.tensor(ids, dtype=torch.int64), elements, dtype=dtype, threads=threads, **options)
    wanted = reference.dropout_mask(ids, elements, **options)
    wanted = reference.bfloat16_bits(wanted).view(np.int16) if dtype == torch.bfloat16 else wanted.view(np.int32)
    assert got.dtype == dtype
    assert np.array_equal(bits(got), wanted)


def test_dropout_rows_depend_on_the_example_alone():
    options = {"p": 0.3, "seed": 5, "step": 7, "layer": 2}
    together = native.dropout_mask(torch.tensor([9, 4, 9, 1]), 1001, **options)
    alone = native.dropout_mask(torch.tensor([4]), 1001, **options)
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[3])
    for changed in ({"seed": 6}, {"step": 8}, {"layer": 3}):
        assert not torch.equal(alone, native.dropout_mask(torch.tensor([4]), 1001, **(options | changed)))


def test_dropout_keeps_the_right_share():
    mask = native.dropout_mask(torch.arange(1000), 1000, p=0.3, seed=1, step=0, layer=0)
    kept = (mask > 0).double().mean().item()
    assert abs(kept - 0.7) < 5 * (0.3 * 0.7 / 1e6) ** 0.5
    assert mask.unique().tolist() == [0.0, np.float32(1 / 0.7)]


def test_dropout_writes_into_out():
    out = torch.empty((2, 5), dtype=torch.bfloat16)
    assert native.dropout_mask(torch.arange(2), 5, p=0.0, seed=1, step=0, layer=0, out=out) is out
    assert torch.equal(out, torch.ones_like(out))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"example_ids": torch.tensor([0, 2**32])},
            IndexError,
            r"example_ids\[1\] is 4294967296, but must be in 0",
        ),
        ({"example_ids": torch.tensor([-1])}, IndexError, r"example_ids\[0\] is -1"),
        ({"example_ids": torch.zeros(3)}, TypeError, "example_ids must be torch.int64"),
        ({"p": 1.5}, ValueError, r"p is 1.5, but must be in 0.0 \.\. 1.0"),
        ({"p": "half"}, TypeError, "p must be a number, not str"),
        ({"step": -1}, ValueError, "step is -1"),
        ({"layer": 2**24}, ValueError, r"layer is 16777216, but must be in 0 \.\. 16777215"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"elements": -1}, ValueError, "elements is -1"),
        ({"out": torch.empty((3, 4))}, ValueError, r"out must have shape .* \[2, 4\], not \[3, 4\]"),
        (
            {"out": torch.empty((2, 4)), "dtype": torch.bfloat16},
            TypeError,
            "dtype is torch.bfloat16, but out is",
        ),
        ({"dtype": torch.float16}, TypeError, "out must be torch.float32 or torch.bfloat16"),
    ],
)
def test_dropout_errors_name_the_argument(changed, error, message):
    arguments = {
        "example_ids": torch.arange(2),
        "elements": 4,
        "p": 0.5,
        "seed": 1,
        "step": 0,
        "layer": 0,
    } | changed
    with pytest.raises(error, match=message):
        native.dropout_mask(**arguments)


# ---- around the build ------------------------------------------------------------------------------------------------


def test_torchs_thread_count_is_left_alone():
    before = torch.get_num_threads()
    native.permutation(10_000, seed=1, epoch=0, source=Source.SHUFFLE, threads=3)
    assert torch.get_num_threads() == before


def test_no_cuda_build_says_so(monkeypatch):
    monkeypatch.setattr(native, "cuda_compiled", False)
    with pytest.raises(RuntimeError, match="popnet was built without CUDA: put nvcc on PATH"):
        native.permutation(3, seed=1, epoch=0, source=2, device="cuda")


# ---- CUDA: the same bits ---------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (1, 1, 1), (13, 7, 5), (224, 224, 3)])
def test_augment_on_cuda_is_the_same(dtype, layout, shape):
    images, order = image_set(40, *shape), permutation(1, 0, 40)
    options = {"seed": 3, "epoch": 5, "crop": 4, "flip": True, "translate": 2, "cutout": min(shape[:2]) // 2}
    options |= constants(shape[2]) | {"fill": list(range(shape[2]))}
    cpu = run(native.augment, images, order, dtype, layout, **options)
    cuda = run(native.augment, images, order, dtype, layout, "cuda", **options)
    assert np.array_equal(bits(cpu), bits(cuda))
    options = constants(shape[2]) | {"dy": -1, "dx": 2, "flip": True}
    cpu = run(native.view, images, order, dtype, layout, **options)
    cuda = run(native.view, images, order, dtype, layout, "cuda", **options)
    assert np.array_equal(bits(cpu), bits(cuda))


@pytest.mark.gpu
@needs_gpu
def test_indices_outside_the_image_set_are_nan_on_cuda():
    out = run(native.view, image_set(4, 8, 8, 3), [0, 4, -1], device="cuda", **constants(3)).cpu()
    assert not out[0].isnan().any()
    assert out[1:].isnan().all()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("count", [1, 5, 96, 97, 300])
@pytest.mark.parametrize("optimiser", ["sgd", "nesterov", "adam"])
def test_optimisers_on_cuda_are_the_same(count, optimiser):
    generator = np.random.default_rng(count)
    rows, end = [], 0
    for length in generator.integers(0, 5000, count).tolist():
        rows.append((end, length, float(generator.uniform(0.5, 2)), float(generator.uniform(0, 1e-3))))
        end += length + int(generator.integers(0, 64))
    prepared = native.segments(rows)
    cpu = [flat(seed, end).abs() for seed in range(4)]
    cuda = [tensor.cuda() for tensor in cpu]
    for buffers in (cpu, cuda):
        if optimiser == "adam":
            native.adam_step(*buffers, prepared, lr=1e-2, step=4)
        else:
            native.sgd_step(*buffers[:3], prepared, lr=0.1, momentum=0.9, nesterov=optimiser == "nesterov")
    for a, b in zip(cpu, cuda):
        assert np.array_equal(bits(a), bits(b))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("elements", [0, 1, 3, 4, 1023])
def test_dropout_on_cuda_is_the_same(dtype, elements):
    ids = torch.tensor([0, 5, 2**32 - 1, 5])
    options = {"p": 0.3, "seed": 2**40 + 1, "step": 9, "layer": 4, "dtype": dtype}
    cpu = native.dropout_mask(ids, elements, **options)
    cuda = native.dropout_mask(ids.cuda(), elements, **options)
    assert np.array_equal(bits(cpu), bits(cuda))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_nothing_is_little_work(device):
    """No images, no examples, no parameters, no order: no error, and what there is to write is written."""
    images = torch.zeros((3, 4, 4, 2), dtype=torch.uint8, device=device)
    nobody = torch.zeros(0, dtype=torch.int64, device=device)
    out = torch.zeros((0, 2, 4, 4), device=device)
    assert native.augment(images, nobody, out, seed=1, epoch=0, **constants(2)) is out
    assert native.dropout_mask(nobody, 4, p=0.5, seed=1, step=0, layer=0).shape == (0, 4)
    assert len(native.permutation(0, seed=1, epoch=0, source=Source.SHUFFLE, device=device)) == 0
    buffers = [torch.ones(4, device=device) for _ in range(4)]
    native.sgd_step(*buffers[:3], native.segments([]), lr=0.1, momentum=0.9)
    native.adam_step(*buffers, native.segments([]), lr=0.1, step=1)
    assert all(torch.equal(buffer.cpu(), torch.ones(4)) for buffer in buffers)
    table = torch.arange(2 * native.STEP_WORDS, device=device).reshape(2, native.STEP_WORDS)
    now, position = torch.zeros(native.STEP_WORDS, dtype=torch.int64, device=device), nobody.new_ones(1)
    native.begin_step(table, nobody, nobody, position, 8, now=now, indices=nobody, labels=nobody.clone())
    assert torch.equal(now, table[1])


@pytest.mark.gpu
@needs_gpu
def test_tensors_on_two_devices_are_refused():
    images = torch.zeros((4, 8, 6, 3), dtype=torch.uint8, device="cuda")
    with pytest.raises(ValueError, match="indices is on cpu, but images is on cuda:0"):
        augment_call(images=images)
