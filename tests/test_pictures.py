"""Pictures of any size: framing against Pillow, draws against the oracle, decoding against libturbojpeg."""

from __future__ import annotations

import ctypes
import io
import math

import numpy as np
import pytest
import reference
import torch
from PIL import Image

from popnet import config, native
from popnet.engine import estimates
from popnet.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def smooth(height, width, seed):
    """A picture with structure at several scales, uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return np.clip(picture + generator.integers(-9, 10, picture.shape), 0, 255).astype(np.uint8)


def pillow_resized(image, height, width):
    """Pillow's own resize, one direction after the other: versions differ in which they would do first."""
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(image.resize((width, image.height), bilinear).resize((width, height), bilinear))


def raw_pictures(arrays):
    rows, offset = [], 0
    for array in arrays:
        rows.append([offset, array.size, *array.shape[:2], 0])
        offset += array.size
    joined = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))
    return native.pictures(joined, torch.tensor(rows), arrays[0].shape[2])


def jpeg_bytes(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", **{"quality": 85, **options})
    return np.frombuffer(file.getvalue(), np.uint8)


def jpeg_pictures(arrays, encoded):
    rows, offset = [], 0
    for array, data in zip(arrays, encoded):
        rows.append([offset, data.size, *array.shape[:2], 1])
        offset += data.size
    return native.pictures(torch.from_numpy(np.concatenate(encoded)), torch.tensor(rows), 3)


def pixels_of(source, indices, size, framing, **options):
    """The batch as pixel values, uint8 [b, height, width, c]: normalised by constants that change nothing."""
    out = torch.empty(len(indices), source.channels, *size).to(memory_format=torch.channels_last)
    constants = {"mean": [0.0] * source.channels, "std": [1 / 255] * source.channels}
    native.picture_batch(source, torch.tensor(indices), out, framing, **constants, **options)
    return out.permute(0, 2, 3, 1).numpy().round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (300, 200), (17, 23), (9, 9), (224, 1)])
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (224, 224)])
def test_a_framed_picture_is_pillows_crop_and_resize(shape, size):
    picture = smooth(*shape, seed=sum(shape))
    side = max(int(0.875 * min(shape)), 1)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    cropped = Image.fromarray(picture).crop((left, top, left + side, top + side))
    expected = pillow_resized(cropped, *size)
    got = pixels_of(raw_pictures([picture]), [0], size, native.central_framing(*size, 0.875))
    assert np.array_equal(got[0], expected)


def test_one_and_four_channels_are_framed_like_pillows():
    for channels in (1, 4):
        picture = smooth(40, 50, 3)[..., :1].repeat(channels, 2)
        expected = pillow_resized(Image.fromarray(picture[..., 0]).crop((5, 0, 45, 40)), 24, 24)
        got = pixels_of(raw_pictures([np.ascontiguousarray(picture)]), [0], (24, 24), native.central_framing(24, 24))
        assert (got[0] == expected[..., None]).all()


@pytest.mark.parametrize(("area", "aspect"), [((0.08, 1.0), (0.75, 4 / 3)), ((0.9, 1.0), (2.0, 3.0))])
def test_random_resized_crop_equals_reference(area, aspect):
    shapes = [(48, 64), (64, 48), (20, 120), (120, 20), (33, 33)] * 8
    pictures = [smooth(*shape, seed=k) for k, shape in enumerate(shapes)]
    framing = native.random_framing(28, 20, area, aspect)
    for seed, epoch in ((1, 0), (2**40 + 3, 7)):
        got = pixels_of(raw_pictures(pictures), range(len(shapes)), (28, 20), framing, seed=seed, epoch=epoch)
        for index, picture in enumerate(pictures):
            y, x, h, w = reference.random_box(*shapes[index], area, aspect, seed, epoch, index)
            cropped = Image.fromarray(picture).crop((x, y, x + w, y + h))
            assert np.array_equal(got[index], pillow_resized(cropped, 28, 20))


def test_random_resized_crop_has_torchvisions_distribution():
    """Mean height, width, top and left of 4,000 boxes, within five standard errors."""
    from torchvision.transforms import RandomResizedCrop

    area, aspect, height, width = (0.08, 1.0), (0.75, 4 / 3), 60, 90
    ours = np.array([reference.random_box(height, width, area, aspect, 1, 0, k) for k in range(4000)], float)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blank = torch.zeros(1, height, width)
        theirs = np.array([RandomResizedCrop.get_params(blank, area, aspect) for _ in range(4000)], float)
    for column in range(4):
        error = math.hypot(ours[:, column].std(), theirs[:, column].std()) / math.sqrt(4000)
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 5 * error


def test_a_crop_leaves_the_other_draws_alone():
    """Random resized crop, flip, crop, translation and cutout: the flip of an image is the same with and without."""
    pictures = [smooth(32, 32, k) for k in range(20)]
    source = raw_pictures(pictures)
    plain = pixels_of(source, range(20), (32, 32), None, seed=5, epoch=2, flip=True)
    whole = native.random_framing(32, 32, (1.0, 1.0), (1.0, 1.0))  # the whole picture, whatever is drawn
    assert np.array_equal(plain, pixels_of(source, range(20), (32, 32), whole, seed=5, epoch=2, flip=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unframed_pictures_are_augments_batches(dtype, layout):
    images = torch.from_numpy(np.stack([smooth(16, 20, k) for k in range(30)]))
    source = raw_pictures(list(images.numpy()))
    order = torch.randperm(30)
    options = {"mean": MEAN, "std": STD, "seed": 3, "epoch": 1, "crop": 4, "flip": True, "translate": 2, "cutout": 5}
    outs = [torch.empty(30, 3, 16, 20, dtype=dtype).to(memory_format=layout) for _ in range(2)]
    native.augment(images, order, outs[0], fill=[9, 8, 7], **options)
    native.picture_batch(source, order, outs[1], None, fill=[9, 8, 7], threads=2, **options)
    assert torch.equal(outs[0], outs[1])


def test_keys_stand_for_the_indices_of_a_larger_set():
    images = torch.from_numpy(np.stack([smooth(12, 12, k) for k in range(40)]))
    order = torch.randperm(40)[:10]
    options = {"mean": MEAN, "std": STD, "seed": 3, "epoch": 1, "crop": 2, "flip": True}
    whole, part, framed = (torch.empty(10, 3, 12, 12) for _ in range(3))
    native.augment(images, order, whole, **options)
    few = images[order].contiguous()
    native.augment(few, torch.arange(10), part, keys=order, **options)
    native.picture_batch(raw_pictures(list(few.numpy())), torch.arange(10), framed, None, keys=order, **options)
    assert torch.equal(whole, part)
    assert torch.equal(whole, framed)


def turbojpeg():
    try:
        library = ctypes.CDLL("libturbojpeg.so.0")
    except OSError:
        pytest.skip("libturbojpeg is not installed")
    library.tjInitDecompress.restype = ctypes.c_void_p
    return library


def decoded_by_turbojpeg(library, data, height, width, flags=0):
    handle = ctypes.c_void_p(library.tjInitDecompress())
    out = np.zeros((height, width, 3), np.uint8)
    code = library.tjDecompress2(
        handle,
        data.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_ulong(data.size),
        out.ctypes.data_as(ctypes.c_void_p),
        *(width, width * 3, height, 0, flags),
    )
    library.tjDestroy(handle)
    assert code == 0
    return out


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"subsampling": 1, "quality": 40}])
def test_decoding_is_turbojpegs_with_the_same_flags(options):
    library = turbojpeg()
    arrays = [smooth(41 + 7 * k, 60 - 5 * k, k) for k in range(4)]
    encoded = [jpeg_bytes(array, **options) for array in arrays]
    source = jpeg_pictures(arrays, encoded)
    for index, (array, data) in enumerate(zip(arrays, encoded)):
        expected = decoded_by_turbojpeg(library, data, *array.shape[:2])
        assert np.array_equal(native.decode_picture(source, index).numpy(), expected)
    fast = decoded_by_turbojpeg(library, encoded[0], *arrays[0].shape[:2], flags=2048)
    assert not np.array_equal(fast, native.decode_picture(source, 0).numpy())  # the flags matter


def test_grey_jpegs_become_three_equal_channels():
    turbojpeg()
    grey = smooth(30, 30, 1)[..., 0]
    source = jpeg_pictures([grey[..., None]], [jpeg_bytes(grey)])
    decoded = native.decode_picture(source, 0).numpy()
    assert (decoded == decoded[..., :1]).all()


def damaged(kind):
    array = smooth(64, 64, 1)
    data = jpeg_bytes(array).copy()
    if kind == "truncated":
        return array, data[: len(data) // 2]
    if kind == "no JPEG":
        data[:2] = 0
    if kind == "of another size":
        array = array[:60]
    return array, data


@pytest.mark.parametrize("kind", ["truncated", "no JPEG", "of another size"])
def test_unreadable_jpegs_are_named(kind):
    turbojpeg()
    good = smooth(50, 50, 2)
    array, data = damaged(kind)
    source = jpeg_pictures([good, array, good], [jpeg_bytes(good), data, jpeg_bytes(good)])
    out = torch.empty(3, 3, 32, 32)
    for threads in (1, 3):
        options = {"mean": MEAN, "std": STD, "threads": threads}
        with pytest.raises(native.UnreadablePicture, match="picture 1 cannot be read") as caught:
            native.picture_batch(source, torch.arange(3), out, native.central_framing(32, 32), **options)
        assert caught.value.index == 1
    with pytest.raises(native.UnreadablePicture):
        native.decode_picture(source, 1)


@pytest.mark.parametrize(
    "row",
    [[0, 301, 10, 10, 0], [1, 300, 10, 10, 0], [-1, 300, 10, 10, 0], [0, 299, 10, 10, 0], [0, 0, 0, 10, 1]],
)
def test_pictures_outside_their_bytes_are_refused(row):
    with pytest.raises(ValueError, match="picture 1 "):
        native.pictures(torch.zeros(300, dtype=torch.uint8), torch.tensor([[0, 300, 10, 10, 0], row]), 3)


def test_a_plan_times_images_of_the_size_that_resize_gives(monkeypatch):
    shapes = []

    def made(count, shape, classes):
        shapes.append(shape)
        raise ConfigError("timed enough")

    monkeypatch.setattr(estimates, "_random_images", made)
    speeds, plain = {}, {"dataset": "cifar10", "model": "resnet6", "epochs": 1, "batch_size": 16}
    for resize in (None, {"train": 64, "test": 96}, {"train": 32, "test": 32}):
        made_with = config.Recipe.model_validate({**plain, "optimizer": {"name": "sgd", "lr": 0.1}, "resize": resize})
        assert estimates._speed(made_with, speeds) == "cannot be trained here: timed enough"
    assert shapes == [(32, 32, 3), (64, 64, 3), (32, 32, 3)]


def test_indices_and_shapes_are_checked():
    source = raw_pictures([smooth(10, 10, 0), smooth(12, 10, 0)])
    options = {"mean": MEAN, "std": STD}
    with pytest.raises(IndexError, match=r"2 \.\. 2"):
        native.picture_batch(
            source, torch.tensor([2]), torch.empty(1, 3, 8, 8), native.central_framing(8, 8), **options
        )
    with pytest.raises(ValueError, match="every picture must be"):
        native.picture_batch(source, torch.tensor([0, 1]), torch.empty(2, 3, 10, 10), None, **options)
