"""The one door to csrc: every function here checks device, dtype, shape and contiguity, then calls a native kernel.

Tensors on the CPU go to the C++ kernel, tensors on a CUDA device to its twin, on the current stream; the results are
the same bits (csrc/*/NAME.h states each operation's arithmetic). `threads` counts CPU threads and never changes a
result. A TypeError names an argument of the wrong type or dtype, a ValueError one of the wrong shape, layout, device or
range; nothing is converted or copied behind the caller's back.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

# torch first: the native module then uses the OpenMP runtime that torch has loaded.
import popnet._native as _native

cuda_compiled: bool = _native.cuda_compiled
"""Whether the CUDA kernels were compiled in; says nothing about whether there is a GPU."""

CudaError: type[RuntimeError] = _native.CudaError
"""What a call of CUDA or a launch that failed is raised as; its text ends with CUDA's own, such as `out of memory`."""

_WORD = 2**32
_MAX_THREADS = 1024


# ---- checks: each names the argument ---------------------------------------------------------------------------------


def _integer(name: str, value: int, low: int, high: int) -> int:
    """`value` as an int in low .. high-1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if not low <= number < high:
        limit = f"2**{(high - 1).bit_length()} - 1" if high >= _WORD // 2 else str(high - 1)
        raise ValueError(f"{name} is {number}, but must be in {low} .. {limit}")
    return number


def check_seed(seed: int) -> int:
    """`seed` as an int in 0 .. 2^64-1; ValueError or TypeError otherwise."""
    return _integer("seed", seed, 0, 2**64)


def check_word(name: str, value: int) -> int:
    """`value` as an int in 0 .. 2^32-1, what one word of a Philox counter holds; ValueError or TypeError otherwise."""
    return _integer(name, value, 0, _WORD)


def _threads(threads: int) -> int:
    return _integer("threads", threads, 1, _MAX_THREADS + 1)


def _number(name: str, value: float, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, but must be in {low} .. {high}")
    return number


def _tensor(name: str, value: Any, dtypes: Sequence[torch.dtype], dimensions: int) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch tensor, not {type(value).__name__}")
    if value.dtype not in dtypes:
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(f"{name} must be {wanted}, not {value.dtype}")
    if value.dim() != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), not shape {list(value.shape)}")
    if value.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, not {value.device}")
    if value.device.type == "cuda":
        _require_cuda()
    return value


def _contiguous(name: str, tensor: Tensor) -> None:
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous, but has strides {list(tensor.stride())}")


def _same_device(reference: str, tensors: dict[str, Tensor]) -> torch.device:
    device = tensors[reference].device
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device}, but {reference} is on {device}")
    return device


def _require_cuda() -> None:
    if not cuda_compiled:
        raise RuntimeError("popnet was built without CUDA: put nvcc on PATH and build it again (make setup)")


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


# ---- common ----------------------------------------------------------------------------------------------------------


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10 of one counter of four words and one key of two."""
    return list(_native.philox4x32(list(counter), list(key)))


# ---- data ------------------------------------------------------------------------------------------------------------


def permutation(
    size: int,
    *,
    seed: int,
    epoch: int,
    source: int,
    block: int = 0,
    device: torch.device | str = "cpu",
    threads: int = 1,
) -> Tensor:
    """The permutation of 0 .. size-1 that (seed, source, epoch, block) names: indices by ascending 64-bit Philox key.

    Args:
        size: number of examples, at most 2^31 - 1.
        seed, epoch, source, block: where the keys come from (csrc/data/permutation.h); any epoch directly.
        device: where to compute and leave it; the same permutation on every device.
        threads: CPU threads.

    Returns:
        int64 [size].
    """
    size = _integer("size", size, 0, 2**31)
    words = (
        check_seed(seed),
        check_word("source", source),
        check_word("epoch", epoch),
        check_word("block", block),
    )
    threads = _threads(threads)
    device = torch.device(device)
    if device.type == "cuda":
        _require_cuda()
    elif device.type != "cpu":
        raise ValueError(f"device must be the CPU or a CUDA device, not {device}")
    order = torch.empty(size, dtype=torch.int64, device=device)
    if device.type == "cpu":
        _native.permutation_cpu(order.data_ptr(), size, *words, threads)
        return order
    with torch.cuda.device(order.device):
        nbytes = _native.permutation_workspace_cuda(size)
        workspace = torch.empty(nbytes, dtype=torch.uint8, device=order.device)
        stream = _stream(order.device)
        _native.permutation_cuda(order.data_ptr(), workspace.data_ptr(), nbytes, size, *words, stream)
    return order


def augment(
    images: Tensor,
    indices: Tensor,
    out: Tensor,
    *,
    seed: int,
    epoch: int,
    mean: Sequence[float],
    std: Sequence[float],
    crop: int = 0,
    flip: bool = False,
    translate: int = 0,
    cutout: int = 0,
    fill: Sequence[int] | None = None,
    now: Tensor | None = None,
    keys: Tensor | None = None,
    threads: int = 1,
) -> Tensor:
    """Writes the augmented, normalised batch of `indices` into `out` and returns it.

    An image's augmentation depends on (seed, epoch, image index) alone: not on the batch, its order or the other
    operations. Operations, in this order: crop out of the image padded by `crop` zeros on every side; horizontal flip
    with probability 1/2; translation by up to `translate` pixels either way, zeros moving in; cutout of one
    cutout x cutout square inside the image, set to `fill`. Then (pixel / 255 - mean) / std, as one fused multiply-add.

    Args:
        images: uint8 [n, h, w, c], contiguous, c at most 16.
        indices: int64 [b], contiguous, each in 0 .. n-1 (IndexError on the CPU; on CUDA such an image becomes NaN).
        out: float32 or bfloat16 [b, c, h, w], contiguous or channels_last.
        seed: of the source `augment`.
        epoch: the draws' epoch.
        mean, std: per channel, in units of the full pixel range.
        crop, flip, translate, cutout: 0 or False switches an operation off.
        fill: pixel value of cutout per channel, 0 .. 255; zeros if not given.
        now: from `begin_step`: seed and epoch are those found there when the kernel runs, not those given.
        keys: int64 [b]: the image indices that the draws depend on, where `images` holds only some of a larger set;
            by default `indices`.
        threads: CPU threads.
    """
    _check_images(images, indices, out)
    now_address = _now(now, images.device)
    augmentation = _random_augmentation(images.shape[1:], seed, epoch, crop, flip, translate, cutout, fill, now_address)
    return _launch_augment(images, indices, out, augmentation, mean, std, threads, keys)


def _random_augmentation(
    shape: Sequence[int],
    seed: int,
    epoch: int,
    crop: int,
    flip: bool,
    translate: int,
    cutout: int,
    fill: Sequence[int] | None,
    now: int = 0,
) -> Any:
    height, width, channels = shape
    if fill is None:
        fill = [0] * channels
    if len(fill) != channels:
        raise ValueError(f"fill has {len(fill)} value(s), but images have {channels} channel(s)")
    return _native.Augmentation(
        check_seed(seed),
        check_word("epoch", epoch),
        _integer("crop", crop, 0, 2**15),
        bool(flip),
        _integer("translate", translate, 0, 2**15),
        _integer("cutout", cutout, 0, min(height, width) + 1),
        [_integer("fill", value, 0, 256) for value in fill],
        now,
    )


def view(
    images: Tensor,
    indices: Tensor,
    out: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dy: int = 0,
    dx: int = 0,
    flip: bool = False,
    threads: int = 1,
) -> Tensor:
    """Writes one fixed, normalised view of the images `indices` into `out` and returns it; for evaluation.

    Shifted: out[y, x] = in[y + dy, x + dx], zero outside; offset (oy, ox) of a crop from the image padded by P is
    dy = oy - P, dx = ox - P. If `flip`, the shifted image is then mirrored: out[y, x] = in[y + dy, (w-1-x) + dx].
    Tensors, mean and std as for `augment`; the normalisation is the same arithmetic.
    """
    _check_images(images, indices, out)
    limit = 2**15
    augmentation = _native.Augmentation(
        _integer("dy", dy, -limit, limit), _integer("dx", dx, -limit, limit), bool(flip)
    )
    return _launch_augment(images, indices, out, augmentation, mean, std, threads)


def _check_images(images: Tensor, indices: Tensor, out: Tensor) -> None:
    _tensor("images", images, [torch.uint8], 4)
    _contiguous("images", images)
    _tensor("indices", indices, [torch.int64], 1)
    _contiguous("indices", indices)
    _tensor("out", out, [torch.float32, torch.bfloat16], 4)
    _same_device("images", {"images": images, "indices": indices, "out": out})
    count, height, width, channels = images.shape
    if not 1 <= channels <= _native.max_channels:
        raise ValueError(f"images has {channels} channels, but must have 1 .. {_native.max_channels}")
    if not (0 < height < 2**15 and 0 < width < 2**15):
        raise ValueError(f"images must have 1 .. {2**15 - 1} rows and columns, not {height} x {width}")
    if count > _WORD:
        raise ValueError(f"images has {count} images, but at most 2**32 can be indexed")
    expected = [len(indices), channels, height, width]
    if list(out.shape) != expected:
        raise ValueError(f"out must have shape [b, c, h, w] = {expected}, not {list(out.shape)}")
    if not (out.is_contiguous() or out.is_contiguous(memory_format=torch.channels_last)):
        raise ValueError(f"out must be contiguous or channels_last, but has strides {list(out.stride())}")


def _normalisation(channels: int, mean: Sequence[float], std: Sequence[float]) -> Any:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(f"{name} has {len(values)} value(s), but images have {channels} channel(s)")
    return _prepared_normalisation(tuple(mean), tuple(std))


@lru_cache(maxsize=64)  # a loader calls with the same constants for every batch
def _prepared_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    means = [_number("mean", value, -1e6, 1e6) for value in mean]
    return _native.Normalisation(means, [_number("std", value, 1e-6, 1e6) for value in std])


def _launch_augment(
    images: Tensor,
    indices: Tensor,
    out: Tensor,
    augmentation: Any,
    mean: Sequence[float],
    std: Sequence[float],
    threads: int,
    keys: Tensor | None = None,
) -> Tensor:
    threads = _threads(threads)
    normalisation = _normalisation(images.shape[3], mean, std)
    image_set = _native.ImageSet(images.data_ptr(), list(images.shape))
    batch = _batch(indices, out, keys)
    if images.device.type == "cpu":
        _native.augment_cpu(image_set, batch, augmentation, normalisation, threads)
    else:
        with torch.cuda.device(images.device):
            _native.augment_cuda(image_set, batch, augmentation, normalisation, _stream(images.device))
    return out


def _batch(indices: Tensor, out: Tensor, keys: Tensor | None) -> Any:
    if keys is not None:
        _tensor("keys", keys, [torch.int64], 1)
        _contiguous("keys", keys)
        _same_device("indices", {"indices": indices, "keys": keys})
        if len(keys) != len(indices):
            raise ValueError(f"keys must hold one key for each of {len(indices)} indices, not {len(keys)}")
    channels_last = not out.is_contiguous()
    key_address = 0 if keys is None else keys.data_ptr()
    is_bfloat16 = out.dtype == torch.bfloat16
    return _native.Batch(out.data_ptr(), is_bfloat16, channels_last, indices.data_ptr(), len(indices), key_address)


# ---- pictures: images of any size, raw or JPEG -----------------------------------------------------------------------


TABLE_COLUMNS = ("offset", "size", "height", "width", "jpeg")
"""Of a table of pictures, int64 [n, 5]: where a picture's bytes begin and how many they are, its pixels, and whether
they are a JPEG (1) or raw (0)."""


@dataclass(frozen=True)
class Pictures:
    """Pictures as they lie in memory or in a mapped file; made, and checked once, by `pictures`."""

    bytes: Tensor
    table: Tensor
    channels: int
    native: Any = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.table)


def pictures(bytes: Tensor, table: Tensor, channels: int) -> Pictures:
    """Checks that every picture lies inside `bytes`.

    Args:
        bytes: uint8 [m], contiguous, on the CPU.
        table: int64 [n, 5], contiguous: `TABLE_COLUMNS`. A raw picture is [height, width, channels]; a JPEG has 3.
        channels: of every picture.

    Raises:
        ValueError: a row that does not fit, named by its number.
    """
    _tensor("bytes", bytes, [torch.uint8], 1)
    _contiguous("bytes", bytes)
    _tensor("table", table, [torch.int64], 2)
    _contiguous("table", table)
    if bytes.device.type != "cpu" or table.device.type != "cpu":
        raise ValueError("bytes and table must be on the CPU")
    if table.shape[1] != len(TABLE_COLUMNS):
        raise ValueError(f"table must have shape [n, {len(TABLE_COLUMNS)}], not {list(table.shape)}")
    channels = _integer("channels", channels, 1, _native.max_channels + 1)
    offset, size, height, width, jpeg = table.unbind(1)
    sound = (height > 0) & (height < 2**15) & (width > 0) & (width < 2**15)
    sound &= (offset >= 0) & (size >= 0) & (offset <= len(bytes) - size)
    sound &= ((jpeg == 0) & (size == height * width * channels)) | ((jpeg == 1) & (channels == 3))
    if not bool(sound.all()):
        row = int(torch.nonzero(~sound)[0])
        values = ", ".join(f"{name} {int(value)}" for name, value in zip(TABLE_COLUMNS, table[row]))
        raise ValueError(f"picture {row} ({values}) does not lie inside the {len(bytes)} bytes")
    made = _native.Pictures(bytes.data_ptr(), table.data_ptr(), len(table), channels)
    return Pictures(bytes, table, channels, made)


def jpeg_library_error() -> str:
    """Why JPEGs cannot be decoded on this machine; empty where they can."""
    return str(_native.jpeg_library_error())


def random_framing(height: int, width: int, area: Sequence[float], aspect: Sequence[float]) -> Any:
    """A random resized crop, torchvision's distribution (csrc/data/crop_box.h).

    Args:
        height, width: of the output.
        area: least and most, as a share of the picture's.
        aspect: least and most, width over height.
    """
    (least, most), (flat, wide) = area, aspect
    areas = [_number("area", least, 1e-6, 1.0), _number("area", most, least, 1.0)]
    aspects = [_number("aspect", flat, 1e-3, 1e3), _number("aspect", wide, flat, 1e3)]
    return _native.Framing(*_output_size(height, width), areas, aspects)


def central_framing(height: int, width: int, share: float = 1.0, dy: int = 0, dx: int = 0) -> Any:
    """A square in the middle, its side `share` of the shorter side, moved by (dy, dx) of the output's pixels."""
    limit = 2**15
    shift = _integer("dy", dy, -limit, limit), _integer("dx", dx, -limit, limit)
    return _native.Framing(*_output_size(height, width), _number("share", share, 1e-3, 1.0), *shift)


def _output_size(height: int, width: int) -> tuple[int, int]:
    return _integer("height", height, 1, 2**15), _integer("width", width, 1, 2**15)


def picture_batch(
    source: Pictures,
    indices: Tensor,
    out: Tensor,
    framing: Any | None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
    epoch: int = 0,
    crop: int = 0,
    flip: bool = False,
    translate: int = 0,
    cutout: int = 0,
    fill: Sequence[int] | None = None,
    keys: Tensor | None = None,
    threads: int = 1,
) -> Tensor:
    """Writes the batch `indices` into `out` and returns it: decoded, framed, then as `augment` does it.

    Args:
        source: from `pictures`.
        indices, out, keys and what follows: as for `augment`; the CPU only.
        framing: `random_framing` or `central_framing`; None for pictures that are all as large as `out`.

    Raises:
        UnreadablePicture: a JPEG that is damaged, or not of the size that the table says.
    """
    augmentation = _random_augmentation(
        (*out.shape[2:], source.channels), seed, epoch, crop, flip, translate, cutout, fill
    )
    return _launch_pictures(source, indices, out, framing, augmentation, mean, std, keys, threads)


def picture_view(
    source: Pictures,
    indices: Tensor,
    out: Tensor,
    framing: Any | None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dy: int = 0,
    dx: int = 0,
    flip: bool = False,
    threads: int = 1,
) -> Tensor:
    """As `view`, of decoded and framed pictures: what `dy` and `dx` move is the framed image."""
    limit = 2**15
    augmentation = _native.Augmentation(
        _integer("dy", dy, -limit, limit), _integer("dx", dx, -limit, limit), bool(flip)
    )
    return _launch_pictures(source, indices, out, framing, augmentation, mean, std, None, threads)


class UnreadablePicture(ValueError):
    """A picture that cannot be decoded. `index`: its number."""

    def __init__(self, index: int, reason: str) -> None:
        self.index, self.reason = index, reason
        super().__init__(f"picture {index} cannot be read: {reason}")


def _launch_pictures(
    source: Pictures,
    indices: Tensor,
    out: Tensor,
    framing: Any | None,
    augmentation: Any,
    mean: Sequence[float],
    std: Sequence[float],
    keys: Tensor | None,
    threads: int,
) -> Tensor:
    _tensor("indices", indices, [torch.int64], 1)
    _contiguous("indices", indices)
    _tensor("out", out, [torch.float32, torch.bfloat16], 4)
    _same_device("table", {"table": source.table, "indices": indices, "out": out})
    if list(out.shape[:2]) != [len(indices), source.channels]:
        expected = f"[{len(indices)}, {source.channels}, height, width]"
        raise ValueError(f"out must have shape {expected}, not {list(out.shape)}")
    if not (out.is_contiguous() or out.is_contiguous(memory_format=torch.channels_last)):
        raise ValueError(f"out must be contiguous or channels_last, but has strides {list(out.stride())}")
    if len(indices) == 0:
        return out
    if int(indices.min()) < 0 or int(indices.max()) >= len(source):
        raise IndexError(f"indices are {int(indices.min())} .. {int(indices.max())}, and there are {len(source)}")
    if framing is None:
        if not bool((source.table[indices, 2:4] == torch.tensor(out.shape[2:])).all()):
            raise ValueError(f"without a framing, every picture must be {list(out.shape[2:])}, as out is")
        framing = _native.Framing(0, 0, 1.0, 0, 0)
    normalisation = _normalisation(source.channels, mean, std)
    index, reason = _native.pictures_cpu(
        source.native, _batch(indices, out, keys), framing, augmentation, normalisation, _threads(threads)
    )
    if index >= 0:
        raise UnreadablePicture(index, reason)
    return out


class PictureJob:
    """What a pipeline of another library makes of pictures, batch by batch: addresses to call, and what went wrong.

    `fill_address` takes (job, indices, size, out, threads), `decode_address` (job, indices, size, out, stride,
    threads), all of them 64-bit integers (csrc/data/picture_job.h). The job holds on to the pictures' memory.
    """

    fill_address: int = _native.fill_address
    decode_address: int = _native.decode_address

    def __init__(
        self,
        source: Pictures,
        shape: Sequence[int],
        framing: Any | None,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        crop: int = 0,
        flip: bool = False,
        translate: int = 0,
        cutout: int = 0,
        fill: Sequence[int] | None = None,
    ) -> None:
        """`shape`: of an image of the batch, (height, width, channels); the rest as for `picture_batch`."""
        if framing is None:
            if not bool((source.table[:, 2:4] == torch.tensor(tuple(shape[:2]))).all()):
                raise ValueError(f"without a framing, every picture must be {list(shape[:2])}")
            framing = _native.Framing(0, 0, 1.0, 0, 0)
        augmentation = _random_augmentation(shape, 0, 0, crop, flip, translate, cutout, fill)
        normalisation = _normalisation(source.channels, mean, std)
        self.source, self.shape = source, tuple(shape)
        self._job = _native.PictureJob(source.native, framing, augmentation, normalisation)
        self.address: int = self._job.address()

    def enter(self, seed: int, epoch: int) -> None:
        """What the draws depend on from here on. Not while a batch is being made."""
        self._job.enter(check_seed(seed), check_word("epoch", epoch))

    def check(self) -> None:
        """Raises UnreadablePicture if one was met since the last call, that of the lowest number."""
        index, reason = self._job.take_unreadable()
        if index >= 0:
            raise UnreadablePicture(index, reason)


def decode_picture(source: Pictures, index: int) -> Tensor:
    """One picture: uint8 [height, width, channels]. Raises UnreadablePicture."""
    index = _integer("index", index, 0, len(source))
    height, width = (int(value) for value in source.table[index, 2:4])
    out = torch.empty(height, width, source.channels, dtype=torch.uint8)
    reason = _native.decode_picture(source.native, index, out.data_ptr())
    if reason:
        raise UnreadablePicture(index, reason)
    return out


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segments:
    """How a flat parameter buffer is cut, prepared once and used by every step; made by `segments`."""

    rows: tuple[tuple[int, int, float, float], ...]
    end: int
    """One past the last element of any segment: the least size of a buffer."""
    native: Any = field(repr=False, compare=False)


def segments(rows: Iterable[tuple[int, int, float, float]]) -> Segments:
    """Prepares the segments of a flat buffer.

    Args:
        rows: (offset, length, rate multiplier, weight decay) of each segment, in elements; ascending, not overlapping.
            Elements between segments are padding, which no step touches.
    """
    checked = []
    end = 0
    for offset, length, rate_multiplier, weight_decay in rows:
        offset = _integer("offset", offset, 0, 2**40)
        length = _integer("length", length, 0, 2**40)
        if offset < end:
            raise ValueError(
                f"segments must be ascending and apart, but one ends at {end}, the next begins at {offset}"
            )
        end = offset + length
        multiplier = _number("rate multiplier", rate_multiplier, -1e30, 1e30)
        checked.append((offset, length, multiplier, _number("weight decay", weight_decay, 0.0, 1e30)))
    return Segments(tuple(checked), end, _native.Segments(checked))


def sgd_step(
    parameters: Tensor,
    gradients: Tensor,
    momentum_buffer: Tensor,
    segments: Segments,
    *,
    lr: float,
    momentum: float,
    nesterov: bool = False,
    zero_grad: bool = True,
    now: Tensor | None = None,
    skip: Tensor | None = None,
    threads: int = 1,
) -> None:
    """One SGD step over flat buffers, in place; torch.optim.SGD up to rounding (csrc/training/sgd.h).

    Args:
        parameters, gradients, momentum_buffer: float32 [n], contiguous, on one device, none overlapping another;
            momentum_buffer starts as zeros.
        segments: where parameters lie, with their rate multipliers and weight decays.
        lr: learning rate; a segment's rate is float32(lr * its multiplier).
        momentum, nesterov: as in torch.optim.SGD, dampening 0.
        zero_grad: set the segments' gradients to 0 in the same pass.
        now: from `begin_step`: the rate is the one found there when the kernel runs, not `lr`.
        skip: float32 [1]: if it is not 0 when the kernel runs, parameters and momentum stay as they are.
        threads: CPU threads.
    """
    buffers = {"parameters": parameters, "gradients": gradients, "momentum_buffer": momentum_buffer}
    device = _check_flat(buffers, segments)
    now_address = [buffer.data_ptr() for buffer in buffers.values()]
    arguments = (
        *(
            now_address,
            segments.native,
            _number("lr", lr, -1e30, 1e30),
            _number("momentum", momentum, 0.0, 1e6),
        ),
        *(bool(nesterov), bool(zero_grad), _now(now, device), _skip(skip, device)),
    )
    threads = _threads(threads)
    if device.type == "cpu":
        _native.sgd_cpu(*arguments, threads)
    else:
        with torch.cuda.device(device):
            _native.sgd_cuda(*arguments, _stream(device))


def adam_step(
    parameters: Tensor,
    gradients: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    segments: Segments,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    step: int,
    zero_grad: bool = True,
    now: Tensor | None = None,
    skip: Tensor | None = None,
    threads: int = 1,
) -> None:
    """One Adam step over flat buffers, in place; torch.optim.Adam up to rounding (csrc/training/adam.h).

    Args:
        parameters, gradients, first_moment, second_moment: as for `sgd_step`; both moments start as zeros.
        segments: where parameters lie, with their rate multipliers and (L2) weight decays.
        lr, beta1, beta2, eps: as in torch.optim.Adam.
        step: the number of this step, counting from 1; it sets the bias correction.
        zero_grad: set the segments' gradients to 0 in the same pass.
        now: from `begin_step`: rate and bias corrections are those found there when the kernel runs.
        skip: as for `sgd_step`.
        threads: CPU threads.
    """
    buffers = {
        "parameters": parameters,
        "gradients": gradients,
        "first_moment": first_moment,
        "second_moment": second_moment,
    }
    device = _check_flat(buffers, segments)
    below_one = 1.0 - 2.0**-53
    arguments = (
        *([buffer.data_ptr() for buffer in buffers.values()], segments.native),
        *(_number("lr", lr, -1e30, 1e30), _number("beta1", beta1, 0.0, below_one)),
        *(_number("beta2", beta2, 0.0, below_one), _number("eps", eps, 0.0, 1e6)),
        *(_integer("step", step, 1, 2**53), bool(zero_grad), _now(now, device), _skip(skip, device)),
    )
    threads = _threads(threads)
    if device.type == "cpu":
        _native.adam_cpu(*arguments, threads)
    else:
        with torch.cuda.device(device):
            _native.adam_cuda(*arguments, _stream(device))


def _check_flat(buffers: dict[str, Tensor], segments: Segments) -> torch.device:
    if not isinstance(segments, Segments):
        raise TypeError("segments must come from popnet.native.segments(...)")
    for name, buffer in buffers.items():
        _tensor(name, buffer, [torch.float32], 1)
        _contiguous(name, buffer)
        if len(buffer) < segments.end:
            raise ValueError(f"{name} has {len(buffer)} elements, but the segments reach to {segments.end}")
        if len(buffer) != len(buffers["parameters"]):
            raise ValueError(f"{name} has {len(buffer)} elements, but parameters has {len(buffers['parameters'])}")
    spans = sorted((buffer.data_ptr(), name) for name, buffer in buffers.items())
    for (start, name), (next_start, next_name) in pairwise(spans):
        if start + 4 * segments.end > next_start:
            raise ValueError(f"{next_name} overlaps {name} in memory")
    return _same_device("parameters", buffers)


def dropout_mask(
    example_ids: Tensor,
    elements: int,
    *,
    p: float,
    seed: int,
    step: int,
    layer: int,
    out: Tensor | None = None,
    dtype: torch.dtype | None = None,
    now: Tensor | None = None,
    threads: int = 1,
) -> Tensor:
    """A dropout mask whose every element is a function of (seed, step, layer, example id, element) alone.

    Args:
        example_ids: int64 [examples], contiguous, each in 0 .. 2^32-1 (IndexError on the CPU; on CUDA such a row
            becomes NaN). Rows of equal ids are equal.
        elements: draws per example; the number of channels for a mask over channels.
        p: probability of dropping, 0 .. 1.
        seed: of the source `stochastic`.
        step: the training step, below 2^32.
        layer: the number of the dropout layer in the model, below 2^24.
        out: where to write, float32 or bfloat16 [examples, elements], contiguous; made if not given.
        dtype: of a mask to be made; float32 if not given.
        now: from `begin_step`: seed and step are those found there when the kernel runs, not those given.
        threads: CPU threads.

    Returns:
        float32 or bfloat16 [examples, elements]: 1 / (1 - p) where kept, 0 where dropped.
    """
    _tensor("example_ids", example_ids, [torch.int64], 1)
    _contiguous("example_ids", example_ids)
    elements = _integer("elements", elements, 0, 2**34)
    examples, device = len(example_ids), example_ids.device
    if out is None:
        out = torch.empty((examples, elements), dtype=dtype or torch.float32, device=device)
    elif dtype is not None and dtype != out.dtype:
        raise TypeError(f"dtype is {dtype}, but out is {out.dtype}")
    _tensor("out", out, [torch.float32, torch.bfloat16], 2)
    _contiguous("out", out)
    if list(out.shape) != [examples, elements]:
        raise ValueError(f"out must have shape [examples, elements] = {[examples, elements]}, not {list(out.shape)}")
    _same_device("example_ids", {"example_ids": example_ids, "out": out})
    arguments = (
        *(out.data_ptr(), out.dtype == torch.bfloat16, example_ids.data_ptr(), examples, elements),
        *(_number("p", p, 0.0, 1.0), check_seed(seed), check_word("step", step)),
        *(_integer("layer", layer, 0, 2**24), _now(now, device)),
    )
    threads = _threads(threads)
    if device.type == "cpu":
        _native.dropout_mask_cpu(*arguments, threads)
    else:
        with torch.cuda.device(device):
            _native.dropout_mask_cuda(*arguments, _stream(device))
    return out


def fo_pool(gates: Tensor, initial: Tensor, mask: Tensor | None = None, *, threads: int = 1) -> tuple[Tensor, Tensor]:
    """fo-pooling with its gates' activations (csrc/training/fo_pool.h).

    Args:
        gates: float32 or float64 [length, batch, 3 * hidden]: z, f and o before tanh, sigmoid and sigmoid.
        initial: [batch, hidden]: the state before the first step.
        mask: [batch, hidden], which multiplies the output at every step; none if not given.
        threads: CPU threads.

    Returns:
        The output and the states, each [length, batch, hidden].
    """
    shape = _check_pool(gates, {"initial": initial, "mask": mask})
    output, cells = gates.new_empty(shape), gates.new_empty(shape)
    tensors = [_address(tensor) for tensor in (gates, initial, mask, output, cells)]
    _launch_pool("forward", gates, tensors, shape, threads)
    return output, cells


def fo_pool_gradients(
    gates: Tensor,
    initial: Tensor,
    mask: Tensor | None,
    cells: Tensor,
    output_gradient: Tensor,
    cell_gradient: Tensor | None = None,
    *,
    threads: int = 1,
) -> tuple[Tensor, Tensor]:
    """The gradients of `gates` and `initial` from those of the output and, where given, of the states.

    cells: the states that `fo_pool` returned; it and both gradients are [length, batch, hidden].
    """
    shape = _check_pool(
        gates,
        {"initial": initial, "mask": mask},
        {"cells": cells, "output_gradient": output_gradient, "cell_gradient": cell_gradient},
    )
    gate_gradients, initial_gradient = torch.empty_like(gates), torch.empty_like(initial)
    inputs = (gates, initial, mask, cells, output_gradient, cell_gradient)
    tensors = [_address(tensor) for tensor in (*inputs, gate_gradients, initial_gradient)]
    _launch_pool("backward", gates, tensors, shape, threads)
    return gate_gradients, initial_gradient


def _check_pool(
    gates: Tensor, rows: dict[str, Tensor | None], series: dict[str, Tensor | None] | None = None
) -> tuple[int, int, int]:
    """Length, batch and hidden. `rows` are [batch, hidden], `series` [length, batch, hidden], where they are there."""
    _tensor("gates", gates, [torch.float32, torch.float64], 3)
    _contiguous("gates", gates)
    length, batch, width = gates.shape
    if length < 1 or batch < 1 or width < 3 or width % 3:
        raise ValueError(
            f"gates has shape {list(gates.shape)}, but must be [length, batch, 3 * hidden], each at least 1"
        )
    hidden = width // 3
    for shape, tensors in (([batch, hidden], rows), ([length, batch, hidden], series or {})):
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            _tensor(name, tensor, [gates.dtype], len(shape))
            _contiguous(name, tensor)
            _same_device("gates", {"gates": gates, name: tensor})
            if list(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {list(tensor.shape)}, but must be {shape}")
    return length, batch, hidden


def _launch_pool(way: str, gates: Tensor, tensors: list[int], shape: tuple[int, int, int], threads: int) -> None:
    arguments = (tensors, gates.dtype == torch.float64, list(shape))
    threads = _threads(threads)
    if gates.device.type == "cpu":
        getattr(_native, f"fo_pool_{way}_cpu")(*arguments, threads)
    else:
        with torch.cuda.device(gates.device):
            getattr(_native, f"fo_pool_{way}_cuda")(*arguments, _stream(gates.device))


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


# ---- a step's inputs, in memory ----

STEP_VALUES = np.dtype(
    [
        ("augment_seed", np.uint64),
        ("stochastic_seed", np.uint64),
        ("rate", np.float64),
        ("first_correction", np.float64),
        ("second_correction", np.float64),
        ("epoch", np.uint32),
        ("step", np.uint32),
    ]
)
"""One row of an epoch's table (csrc/common/step_values.h); tensors hold it as int64 [`STEP_WORDS`]."""

STEP_WORDS: int = _native.step_values_words


def _now(now: Tensor | None, device: torch.device) -> int:
    if now is None:
        return 0
    _tensor("now", now, [torch.int64], 1)
    if now.numel() != STEP_WORDS or now.device != device:
        raise ValueError(f"now must be int64 [{STEP_WORDS}] on {device}, from begin_step")
    return now.data_ptr()


def _skip(skip: Tensor | None, device: torch.device) -> int:
    if skip is None:
        return 0
    _tensor("skip", skip, [torch.float32], 1)
    if skip.numel() != 1 or skip.device != device:
        raise ValueError(f"skip must be float32 [1] on {device}")
    return skip.data_ptr()


def begin_step(
    table: Tensor,
    order: Tensor,
    all_labels: Tensor,
    position: Tensor,
    batch_size: int,
    *,
    now: Tensor,
    indices: Tensor,
    labels: Tensor,
) -> None:
    """Fetches a step's values and its batch, at the position that memory holds when the kernel runs.

    Args:
        table: int64 [steps, STEP_WORDS], rows of `STEP_VALUES`.
        order: int64 [examples], the epoch's order; the step's examples begin at position * batch_size.
        all_labels: int64 [n], the label of each example.
        position: int64 [1], the step in the epoch, below `steps`. Like the order's entries it cannot be checked.
        batch_size: of a whole batch.
        now: int64 [STEP_WORDS], becomes the table's row.
        indices, labels: int64 [count], become the batch's examples and their labels.
    """
    tensors = {"order": order, "all_labels": all_labels, "position": position}
    tensors |= {"now": now, "indices": indices, "labels": labels}
    for name, tensor in tensors.items():
        _tensor(name, tensor, [torch.int64], 1)
        _contiguous(name, tensor)
    _tensor("table", table, [torch.int64], 2)
    _contiguous("table", table)
    device = _same_device("table", {"table": table, **tensors})
    if table.shape[1] != STEP_WORDS or len(now) != STEP_WORDS:
        raise ValueError(f"table and now must have rows of {STEP_WORDS} words")
    if len(position) != 1 or len(indices) != len(labels):
        raise ValueError("position must be int64 [1], and indices as long as labels")
    batch = _native.StepBatch(
        *(table.data_ptr(), order.data_ptr(), all_labels.data_ptr(), position.data_ptr()),
        *(_integer("batch_size", batch_size, 1, 2**31), len(indices)),
        *(now.data_ptr(), indices.data_ptr(), labels.data_ptr()),
    )
    if device.type == "cpu":
        _native.begin_step_cpu(batch)
    else:
        with torch.cuda.device(device):
            _native.begin_step_cuda(batch, _stream(device))


def end_step(loss: Tensor, losses: Tensor, position: Tensor) -> None:
    """losses[position] = loss; position += 1. float32 [1], float32 [steps], int64 [1], on one device."""
    _tensor("loss", loss, [torch.float32], 1)
    _tensor("losses", losses, [torch.float32], 1)
    _tensor("position", position, [torch.int64], 1)
    _contiguous("losses", losses)
    device = _same_device("loss", {"loss": loss, "losses": losses, "position": position})
    now_address = (loss.data_ptr(), losses.data_ptr(), position.data_ptr())
    if device.type == "cpu":
        _native.end_step_cpu(*now_address)
    else:
        with torch.cuda.device(device):
            _native.end_step_cuda(*now_address, _stream(device))


# ---- batch norm and loss ----

_NORM_TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@dataclass(frozen=True)
class NormResult:
    """What `batch_norm` gives: y like x, and what its gradient needs, float32 (or float64) [channels]."""

    y: Tensor
    mean: Tensor
    inverse_sd: Tensor


@dataclass(frozen=True)
class NormGradients:
    """What `batch_norm_gradient` gives; `residual` where there is one."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    residual: Tensor | None


def _rows(tensor: Tensor) -> int:
    return tensor.numel() // tensor.shape[1]


def _check_norm(tensors: dict[str, Tensor], channelwise: dict[str, Tensor]) -> torch.device:
    x = tensors["x"]
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    for name, tensor in tensors.items():
        _tensor(name, tensor, _NORM_TYPES, 4)
        if tensor.dtype != x.dtype or tensor.shape != x.shape:
            raise ValueError(
                f"{name} must be {x.dtype} {list(x.shape)} like x, not {tensor.dtype} {list(tensor.shape)}"
            )
        if not tensor.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(f"{name} must be channels_last, but has strides {list(tensor.stride())}")
    for name, tensor in channelwise.items():
        _tensor(name, tensor, [real], 1)
        _contiguous(name, tensor)
        if len(tensor) != x.shape[1]:
            raise ValueError(f"{name} has {len(tensor)} value(s), but x has {x.shape[1]} channels")
    if _rows(x) < 2:
        raise ValueError("x must have at least 2 values a channel: one alone has no variance")
    return _same_device("x", {**tensors, **channelwise})


def _norm_shape(x: Tensor, relu: bool, add: bool) -> Any:
    return _native.NormShape(_rows(x), x.shape[1], str(x.dtype).removeprefix("torch."), add, relu)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
    *,
    eps: float,
    momentum: float,
    relu: bool = False,
    residual: Tensor | None = None,
    threads: int = 1,
) -> NormResult:
    """Batch norm in training mode with what follows it: y = norm(x), relu(norm(x)) or relu(norm(x) + residual).

    PyTorch's operations up to rounding; every sum's order follows from the shape alone (csrc/training/batch_norm.h).

    Args:
        x: float32, bfloat16, float16 or float64 [n, channels, h, w], channels_last, at least 2 values a channel.
        weight, bias: float32 [channels]; float64 where x is. So are all other arrays over channels.
        running_mean, running_var: updated in place with `momentum`.
        batches: int64 [] or [1], counted up by one.
        eps: added to the variance.
        relu: implied by a residual.
        residual: like x.
        threads: CPU threads.
    """
    tensors = {"x": x} if residual is None else {"x": x, "residual": residual}
    channelwise = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    device = _check_norm(tensors, channelwise)
    if batches.dtype != torch.int64 or batches.numel() != 1 or batches.device != device:
        raise ValueError(f"batches must be one int64 on {device}")
    shape = _norm_shape(x, relu, residual is not None)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean, inverse_sd = torch.empty_like(weight), torch.empty_like(weight)
    partials = torch.empty(_native.norm_partials(shape), dtype=torch.float64, device=device)
    arrays = _native.NormForward(
        [
            *(x.data_ptr(), 0 if residual is None else residual.data_ptr(), weight.data_ptr(), bias.data_ptr()),
            *(y.data_ptr(), mean.data_ptr(), inverse_sd.data_ptr()),
            *(running_mean.data_ptr(), running_var.data_ptr(), batches.data_ptr(), partials.data_ptr()),
        ],
        _number("eps", eps, 0.0, 1e6),
        _number("momentum", momentum, 0.0, 1.0),
    )
    if device.type == "cpu":
        _native.batch_norm_cpu(arrays, shape, _threads(threads))
    else:
        with torch.cuda.device(device):
            _native.batch_norm_cuda(arrays, shape, _stream(device))
    return NormResult(y, mean, inverse_sd)


def batch_norm_gradient(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    inverse_sd: Tensor,
    *,
    relu: bool = False,
    add: bool = False,
    threads: int = 1,
) -> NormGradients:
    """The gradients of `batch_norm`.

    Args:
        gradient: of y, like x.
        x, weight, bias: as given to `batch_norm`; y, mean, inverse_sd: as it returned them.
        relu: as given; add: whether there was a residual.
        threads: CPU threads.
    """
    channelwise = {"weight": weight, "bias": bias, "mean": mean, "inverse_sd": inverse_sd}
    device = _check_norm({"x": x, "gradient": gradient, "y": y}, channelwise)
    shape = _norm_shape(x, relu, add)
    of_x = torch.empty_like(x, memory_format=torch.channels_last)
    of_residual = torch.empty_like(of_x) if add else None
    of_weight, of_bias = torch.empty_like(weight), torch.empty_like(weight)
    coefficients = torch.empty((2, x.shape[1]), dtype=weight.dtype, device=device)
    partials = torch.empty(_native.norm_partials(shape), dtype=torch.float64, device=device)
    arrays = _native.NormBackward(
        [
            *(gradient.data_ptr(), x.data_ptr(), y.data_ptr(), weight.data_ptr(), bias.data_ptr()),
            *(mean.data_ptr(), inverse_sd.data_ptr(), of_x.data_ptr()),
            *(0 if of_residual is None else of_residual.data_ptr(), of_weight.data_ptr(), of_bias.data_ptr()),
            *(coefficients.data_ptr(), partials.data_ptr()),
        ]
    )
    if device.type == "cpu":
        _native.batch_norm_gradient_cpu(arrays, shape, _threads(threads))
    else:
        with torch.cuda.device(device):
            _native.batch_norm_gradient_cuda(arrays, shape, _stream(device))
    return NormGradients(of_x, of_weight, of_bias, of_residual)


NARROW_OUTPUTS: int = _native.narrow_outputs
"""The most outputs that `narrow_linear` takes."""


def _check_narrow(tensors: dict[str, Tensor | None]) -> Any:
    """The native shape of x [rows, inputs], weight [outputs, inputs] and what goes with them."""
    there = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    for name, tensor in there.items():
        _tensor(name, tensor, [torch.float32, torch.float64], 1 if name == "bias" else 2)
        _contiguous(name, tensor)
        if tensor.dtype != there["x"].dtype:
            raise TypeError(f"{name} must be {there['x'].dtype} like x, not {tensor.dtype}")
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} must be on the CPU, not {tensor.device}")
    (rows, inputs), outputs = there["x"].shape, len(there["weight"])
    if not 1 <= outputs <= NARROW_OUTPUTS:
        raise ValueError(f"weight has {outputs} outputs, but must have 1 .. {NARROW_OUTPUTS}")
    expected = {"weight": [outputs, inputs], "bias": [outputs], "gradient": [rows, outputs]}
    for name, tensor in there.items():
        if name != "x" and list(tensor.shape) != expected[name]:
            raise ValueError(f"{name} must have shape {expected[name]}, not {list(tensor.shape)}")
    return _native.NarrowShape(rows, inputs, outputs, str(there["x"].dtype).removeprefix("torch."))


def narrow_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, threads: int = 1) -> Tensor:
    """A fully connected layer with few outputs, on the CPU: x weight^T + bias, [rows, outputs].

    Every sum's order follows from the shape alone (csrc/training/narrow_linear.h); a row's result depends on no other.

    Args:
        x: float32 or float64 [rows, inputs], contiguous.
        weight: like x, [outputs, inputs], at most `NARROW_OUTPUTS` outputs.
        bias: like x, [outputs].
        threads: CPU threads.
    """
    shape = _check_narrow({"x": x, "weight": weight, "bias": bias})
    y = x.new_empty((len(x), len(weight)))
    addresses = [x.data_ptr(), weight.data_ptr(), 0 if bias is None else bias.data_ptr(), y.data_ptr()]
    _native.narrow_linear_cpu(_native.NarrowForward(addresses), shape, _threads(threads))
    return y


def narrow_linear_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, *, wanted: Sequence[bool] = (True, True, True), threads: int = 1
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of `narrow_linear`: of x, weight and bias, None where not `wanted`.

    Args:
        gradient: of the result, like x, [rows, outputs].
        x, weight: as given to `narrow_linear`.
        wanted: which of the three.
        threads: CPU threads.
    """
    shape = _check_narrow({"x": x, "weight": weight, "gradient": gradient})
    of_x = torch.empty_like(x) if wanted[0] else None
    of_weight = torch.empty_like(weight) if wanted[1] else None
    of_bias = x.new_empty(len(weight)) if wanted[2] else None
    made = (of_x, of_weight, of_bias)
    addresses = [tensor.data_ptr() for tensor in (gradient, x, weight)]
    addresses += [0 if tensor is None else tensor.data_ptr() for tensor in made]
    _native.narrow_linear_gradient_cpu(_native.NarrowBackward(addresses), shape, _threads(threads))
    return made


def cross_entropy(logits: Tensor, labels: Tensor, *, threads: int = 1) -> tuple[Tensor, Tensor]:
    """The mean softmax cross-entropy of a batch and its gradient; in float64 inside (csrc/training/cross_entropy.h).

    Args:
        logits: float32 or float64 [examples, classes], contiguous, at least one of each.
        labels: int64 [examples], each a class (IndexError on the CPU; on CUDA the loss becomes NaN).
        threads: CPU threads.

    Returns:
        The loss, [1], and its gradient, [examples, classes], both of the type of the logits.
    """
    _tensor("logits", logits, [torch.float32, torch.float64], 2)
    _contiguous("logits", logits)
    _tensor("labels", labels, [torch.int64], 1)
    _contiguous("labels", labels)
    device = _same_device("logits", {"logits": logits, "labels": labels})
    if logits.numel() == 0 or len(labels) != len(logits):
        raise ValueError(f"logits {list(logits.shape)} and labels {list(labels.shape)} must be of as many examples")
    gradient, loss = torch.empty_like(logits), torch.empty(1, dtype=logits.dtype, device=device)
    losses = torch.empty(len(logits), dtype=torch.float64, device=device)
    batch = _native.CrossEntropy(
        *(logits.data_ptr(), labels.data_ptr(), *logits.shape, str(logits.dtype).removeprefix("torch.")),
        *(gradient.data_ptr(), loss.data_ptr(), losses.data_ptr()),
    )
    if device.type == "cpu":
        _native.cross_entropy_cpu(batch, _threads(threads))
    else:
        with torch.cuda.device(device):
            _native.cross_entropy_cuda(batch, _stream(device))
    return loss, gradient


# ---- metrics ---------------------------------------------------------------------------------------------------------

PAIR_CHUNK: int = _native.pair_chunk
"""Examples that share one logarithm in `add_ensemble_log_products`; slices of examples begin at its multiples."""


@dataclass(frozen=True)
class MemberScores:
    """What `member_scores` gives, on the device of the logits."""

    correct: Tensor
    """int64 [members]: right answers."""
    cross_entropy_sums: Tensor
    """float64 [members], on the CPU: the exact sum of the examples' cross-entropies in nats, rounded once."""
    predictions: Tensor
    """int32 [members, examples]: the lowest class of the largest logit."""
    correct_bits: Tensor
    """int64 [members, ceil(examples / 64)]: bit e % 64 of word e // 64 says whether example e is right."""


def member_scores(logits: Tensor, labels: Tensor, *, threads: int = 1) -> MemberScores:
    """Scores every member in one pass (csrc/metrics/scores.h).

    Args:
        logits: float32 [members, examples, classes], contiguous, finite.
        labels: int64 [examples], each below `classes`, on the same device.
        threads: CPU threads.
    """
    members, examples, classes = _check_logits(logits)
    _check_labels(labels, logits)
    device = logits.device
    correct = torch.zeros(members, dtype=torch.int64, device=device)
    bits = torch.zeros((members, (examples + 63) // 64), dtype=torch.int64, device=device)
    losses = torch.zeros((members, _native.exact_limbs), dtype=torch.int64, device=device)
    predictions = torch.empty((members, examples), dtype=torch.int32, device=device)
    out = [correct.data_ptr(), bits.data_ptr(), losses.data_ptr(), predictions.data_ptr()]
    arguments = (logits.data_ptr(), [members, examples, classes], labels.data_ptr(), out)
    threads = _threads(threads)
    if device.type == "cpu":
        _native.member_scores_cpu(*arguments, threads)
    else:
        with torch.cuda.device(device):
            _native.member_scores_cuda(*arguments, _stream(device))
    losses = losses.cpu()
    sums = torch.empty(members, dtype=torch.float64)
    _native.exact_sums(sums.data_ptr(), losses.data_ptr(), members)
    return MemberScores(correct, sums, predictions, bits)


def first_nonfinite(values: Tensor, *, threads: int = 1) -> int:
    """The index, in the flattened float32 tensor, of the first value that is NaN or infinite; -1 if there is none."""
    _tensor("values", values, [torch.float32], values.dim())
    _contiguous("values", values)
    if values.device.type == "cpu":
        return int(_native.first_nonfinite_cpu(values.data_ptr(), values.numel(), _threads(threads)))
    bad = (~torch.isfinite(values.reshape(-1))).nonzero()
    return int(bad[0]) if len(bad) else -1


def add_votes(votes: Tensor, predictions: Tensor, *, threads: int = 1) -> None:
    """Adds to votes, int64 [examples, classes], how many of the members predict each class.

    predictions: int32 [members, examples], below `classes` (csrc/metrics/scores.h).
    """
    _tensor("votes", votes, [torch.int64], 2)
    _tensor("predictions", predictions, [torch.int32], 2)
    _contiguous("votes", votes)
    _contiguous("predictions", predictions)
    device = _same_device("votes", {"votes": votes, "predictions": predictions})
    if predictions.shape[1] != votes.shape[0]:
        raise ValueError(f"predictions has {predictions.shape[1]} examples, but votes has {votes.shape[0]}")
    shape = [len(predictions), *votes.shape]
    if device.type == "cpu":
        _native.add_votes_cpu(votes.data_ptr(), predictions.data_ptr(), shape, _threads(threads))
    else:
        with torch.cuda.device(device):
            _native.add_votes_cuda(votes.data_ptr(), predictions.data_ptr(), shape, _stream(device))


def differing_matrix(predictions: Tensor, *, threads: int = 1) -> Tensor:
    """int64 [members, members]: the examples on which two rows of predictions, int32 [members, examples], differ."""
    _tensor("predictions", predictions, [torch.int32], 2)
    _contiguous("predictions", predictions)
    members, examples = predictions.shape
    differing = torch.zeros((members, members), dtype=torch.int64, device=predictions.device)
    arguments = (differing.data_ptr(), predictions.data_ptr(), members, examples)
    if predictions.device.type == "cpu":
        _native.differing_matrix_cpu(*arguments, _threads(threads))
    else:
        with torch.cuda.device(predictions.device):
            _native.differing_matrix_cuda(*arguments, _stream(predictions.device))
    return differing


def add_unit_vectors(sums: Tensor, logits: Tensor, *, ranks: bool, threads: int = 1) -> Tensor:
    """Adds every member's normalised vector, in units of 2^-62, to the sums (csrc/metrics/correlation.h).

    Args:
        sums: int64 [values, 2], zeros at first: 128-bit integers, low word first.
        logits: float32 [members, values], contiguous, finite.
        ranks: the vectors are the centred average ranks (Spearman), else the centred values (Pearson).
        threads: CPU threads; on the CPU each takes 32 bytes a value.

    Returns:
        int64 [members, 2]: the vectors' squared norms in units of 2^-124; 0 for a member whose values are all equal.
    """
    members, values = _check_vectors(logits)
    _tensor("sums", sums, [torch.int64], 2)
    _contiguous("sums", sums)
    if list(sums.shape) != [values, 2]:
        raise ValueError(f"sums must have shape [values, 2] = {[values, 2]}, not {list(sums.shape)}")
    device = _same_device("sums", {"sums": sums, "logits": logits})
    squares = torch.zeros((members, 2), dtype=torch.int64, device=device)
    if members == 0:
        return squares
    arguments = (sums.data_ptr(), squares.data_ptr(), logits.data_ptr(), members, values, bool(ranks))
    if device.type == "cpu":
        _native.add_unit_vectors_cpu(*arguments, _threads(threads))
    else:
        with torch.cuda.device(device):
            workspace = _workspace(_native.unit_vectors_workspace_cuda(members, values), device)
            _native.add_unit_vectors_cuda(*arguments, workspace.data_ptr(), len(workspace), _stream(device))
    return squares


def sum_of_squares(sums: Tensor) -> int:
    """The exact sum of the squares of 128-bit integers, int64 [values, 2]."""
    sums = sums.cpu().contiguous()
    words = _native.sum_of_squares(sums.data_ptr(), len(sums))
    high, cross, low = (_signed_128(words[2 * i], words[2 * i + 1]) for i in range(3))
    return (high << 80) + (cross << 41) + low


def centred_ranks(logits: Tensor, *, threads: int = 1) -> Tensor:
    """int32 [members, values]: 2 * average rank - (values + 1), the ranks from 1; logits float32 [members, values]."""
    members, values = _check_vectors(logits)
    device = logits.device
    ranks = torch.empty((members, values), dtype=torch.int32, device=device)
    arguments = (ranks.data_ptr(), logits.data_ptr(), members, values)
    if device.type == "cpu":
        _native.centred_ranks_cpu(*arguments, _threads(threads))
    else:
        with torch.cuda.device(device):
            workspace = _workspace(_native.unit_vectors_workspace_cuda(members, values), device)
            _native.centred_ranks_cuda(*arguments, workspace.data_ptr(), len(workspace), _stream(device))
    return ranks


def ensemble_gain(logits: Tensor, labels: Tensor, *, rows: Tensor | None = None, threads: int = 1) -> int:
    """The sum over pairs of members and examples of 2 [pair right] - [one right] - [the other right].

    Args:
        logits: float32 [members, examples, classes], finite; the last two axes contiguous (csrc/metrics/pairs.h).
        labels: int64 [examples].
        rows: int64 [m], the members that take part; all if not given.
        threads: CPU threads.
    """
    if logits.device.type == "cpu":
        pair_slice, _rows = _pair_slice(logits, labels, rows)
        return int(_native.ensemble_gain_cpu(pair_slice, _threads(threads)))
    members = len(logits) if rows is None else len(rows)
    correct = torch.zeros((members, members), dtype=torch.int64, device=logits.device)
    add_ensemble_correct(correct, logits, labels, rows=rows)
    right = right_answers(logits if rows is None else logits[rows], labels).sum()
    return int(2 * correct.sum() - (members - 1) * right)


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [members, examples]: whether the label is the lowest class of the largest logit (argmax may take any)."""
    own = logits.gather(2, labels.expand(logits.shape[:2])[..., None])
    lower = torch.arange(logits.shape[2], device=logits.device) < labels[:, None]
    return ~((logits > own) | ((logits == own) & lower)).any(dim=2)


def add_ensemble_correct(
    correct: Tensor, logits: Tensor, labels: Tensor, *, rows: Tensor | None = None, threads: int = 1
) -> None:
    """Adds to correct[i, j], i < j, int64 [m, m], the examples on which the ensemble of two members is right."""
    pair_slice, rows = _pair_slice(logits, labels, rows)
    members = len(rows)
    _check_pair_matrix("correct", correct, torch.int64, members, logits)
    if logits.device.type == "cpu":
        _native.ensemble_correct_cpu(correct.data_ptr(), pair_slice, _threads(threads))
    else:
        with torch.cuda.device(logits.device):
            workspace = _workspace(_native.ensemble_workspace_cuda(members, logits.shape[2]), logits.device)
            _native.ensemble_correct_cuda(correct.data_ptr(), pair_slice, workspace.data_ptr(), _stream(logits.device))


def add_ensemble_log_products(
    products: Tensor, logits: Tensor, *, rows: Tensor | None = None, threads: int = 1
) -> None:
    """Adds to products[i, j], i <= j, float64 [m, m], the sum over examples of log(E_i . E_j), E = exp((z - max z)/2).

    logits and rows as for `ensemble_gain`, the examples a slice that begins at a multiple of PAIR_CHUNK; slices in
    order. Entries below the diagonal are left undefined.
    """
    pair_slice, rows = _pair_slice(logits, None, rows)
    members = len(rows)
    _check_pair_matrix("products", products, torch.float64, members, logits)
    if logits.device.type == "cpu":
        _native.ensemble_log_products_cpu(products.data_ptr(), pair_slice, _threads(threads))
    else:
        with torch.cuda.device(logits.device):
            workspace = _workspace(_native.ensemble_workspace_cuda(members, logits.shape[2]), logits.device)
            _native.ensemble_log_products_cuda(
                products.data_ptr(), pair_slice, workspace.data_ptr(), _stream(logits.device)
            )


TOKEN_CHUNK: int = _native.token_chunk
"""Tokens that share one logarithm in `add_mixture_log_products`; slices of tokens begin at its multiples."""


def token_sums(log_probabilities: Tensor, *, threads: int = 1) -> Tensor:
    """The exact sum over tokens of each member's log-probabilities, rounded once: float64 [members], on the CPU.

    log_probabilities: float32 [members, tokens], finite, the last axis contiguous (csrc/metrics/mixture.h).
    """
    token_slice, rows = _token_slice(log_probabilities, None)
    device = log_probabilities.device
    limbs = torch.zeros((len(rows), _native.exact_limbs), dtype=torch.int64, device=device)
    if device.type == "cpu":
        _native.token_sums_cpu(limbs.data_ptr(), token_slice, _threads(threads))
    else:
        with torch.cuda.device(device):
            _native.token_sums_cuda(limbs.data_ptr(), token_slice, _stream(device))
    limbs = limbs.cpu()
    sums = torch.empty(len(rows), dtype=torch.float64)
    _native.exact_sums(sums.data_ptr(), limbs.data_ptr(), len(rows))
    return sums


def add_mixture_log_products(
    products: Tensor, log_probabilities: Tensor, *, rows: Tensor | None = None, threads: int = 1
) -> None:
    """Adds to products[i, j], i <= j, float64 [m, m], the sum over tokens of log(exp(l_i) + exp(l_j)).

    Args:
        log_probabilities: float32 [members, tokens], finite, the last axis contiguous; a slice of the tokens that
            begins at a multiple of TOKEN_CHUNK, slices in order (csrc/metrics/mixture.h).
        rows: int64 [m], the members that take part; all if not given.
        threads: CPU threads.

    Entries below the diagonal are left undefined.
    """
    token_slice, rows = _token_slice(log_probabilities, rows)
    _check_pair_matrix("products", products, torch.float64, len(rows), log_probabilities)
    device = log_probabilities.device
    if device.type == "cpu":
        _native.mixture_log_products_cpu(products.data_ptr(), token_slice, _threads(threads))
    else:
        with torch.cuda.device(device):
            workspace = _workspace(_native.mixture_workspace_cuda(len(rows)), device)
            _native.mixture_log_products_cuda(products.data_ptr(), token_slice, workspace.data_ptr(), _stream(device))


def mean_log_probabilities(values: Tensor, *, normalised: bool, threads: int = 1) -> Tensor:
    """The logarithm of the mean over views of probabilities, in float64, rounded once: float32 [rows, columns].

    Args:
        values: float32 [views, rows, columns], finite, contiguous, on the CPU.
        normalised: whether they are log-probabilities already; logits are made so, each row by itself.
        threads: CPU threads.
    """
    _tensor("values", values, [torch.float32], 3)
    _contiguous("values", values)
    if values.device.type != "cpu" or 0 in values.shape:
        raise ValueError(f"values must be on the CPU and not empty, not {list(values.shape)} on {values.device}")
    out = torch.empty(values.shape[1:], dtype=torch.float32)
    arguments = (out.data_ptr(), values.data_ptr(), list(values.shape), bool(normalised))
    _native.mean_log_probabilities_cpu(*arguments, _threads(threads))
    return out


def portable_exp(exponents: Tensor) -> Tensor:
    """e^x with the same bits on every machine: float64, on the CPU, any shape, each x at most 709."""
    _tensor("exponents", exponents, [torch.float64], exponents.dim())
    _contiguous("exponents", exponents)
    if exponents.numel() and not bool((exponents <= 709.0).all()):
        raise ValueError("exponents must be at most 709: e^x overflows beyond")
    values = torch.empty_like(exponents)
    _native.portable_exp(values.data_ptr(), exponents.data_ptr(), exponents.numel())
    return values


def bootstrap_deviations(values: Tensor, *, resamples: int, seed: int, threads: int = 1) -> Tensor:
    """The standard deviation (ddof 0) of every resample of the members: float64 [statistics, resamples].

    values: int64 [statistics, members], each in 0 .. 2^41; all statistics are resampled with the same members
    (csrc/metrics/bootstrap.h).
    """
    _tensor("values", values, [torch.int64], 2)
    _contiguous("values", values)
    statistics, members = values.shape
    _integer("members", members, 1, 2**20 + 1)
    resamples = _integer("resamples", resamples, 1, _WORD)
    deviations = torch.empty((statistics, resamples), dtype=torch.float64, device=values.device)
    arguments = (deviations.data_ptr(), values.data_ptr(), statistics, members, resamples, check_seed(seed))
    if values.device.type == "cpu":
        _native.bootstrap_deviations_cpu(*arguments, _threads(threads))
    else:
        with torch.cuda.device(values.device):
            _native.bootstrap_deviations_cuda(*arguments, _stream(values.device))
    return deviations


def _check_logits(logits: Tensor) -> tuple[int, int, int]:
    _tensor("logits", logits, [torch.float32], 3)
    _contiguous("logits", logits)
    members, examples, classes = logits.shape
    _integer("classes", classes, 1, 2**31)
    return members, examples, classes


def _check_labels(labels: Tensor, logits: Tensor) -> None:
    _tensor("labels", labels, [torch.int64], 1)
    _contiguous("labels", labels)
    _same_device("logits", {"logits": logits, "labels": labels})
    if len(labels) != logits.shape[1]:
        raise ValueError(f"labels has {len(labels)} examples, but logits has {logits.shape[1]}")


def _check_vectors(logits: Tensor) -> tuple[int, int]:
    _tensor("logits", logits, [torch.float32], 2)
    _contiguous("logits", logits)
    members, values = logits.shape
    _integer("values", values, 1, 2**31)
    return members, values


def _check_pair_matrix(name: str, matrix: Tensor, dtype: torch.dtype, members: int, logits: Tensor) -> None:
    _tensor(name, matrix, [dtype], 2)
    _contiguous(name, matrix)
    _same_device("logits", {"logits": logits, name: matrix})
    if list(matrix.shape) != [members, members]:
        raise ValueError(f"{name} must have shape [members, members] = {[members] * 2}, not {list(matrix.shape)}")


def _pair_slice(logits: Tensor, labels: Tensor | None, rows: Tensor | None) -> tuple[Any, Tensor]:
    """The native slice and its rows, which must outlive it."""
    _tensor("logits", logits, [torch.float32], 3)
    _, examples, classes = logits.shape
    if logits.numel() and (logits.stride(2) != 1 or (examples > 1 and logits.stride(1) != classes)):
        raise ValueError(f"logits must be contiguous in examples and classes, but has strides {list(logits.stride())}")
    if labels is not None:
        _check_labels(labels, logits)
    rows = _checked_rows(rows, logits, "logits")
    shape = [len(rows), examples, classes]
    labels_address = 0 if labels is None else labels.data_ptr()
    native_slice = _native.PairSlice(logits.data_ptr(), logits.stride(0), rows.data_ptr(), shape, labels_address)
    return native_slice, rows


def _token_slice(log_probabilities: Tensor, rows: Tensor | None) -> tuple[Any, Tensor]:
    """The native slice and its rows, which must outlive it."""
    _tensor("log_probabilities", log_probabilities, [torch.float32], 2)
    tokens = log_probabilities.shape[1]
    if log_probabilities.numel() and tokens > 1 and log_probabilities.stride(1) != 1:
        raise ValueError(f"log_probabilities must be contiguous in tokens, not {list(log_probabilities.stride())}")
    rows = _checked_rows(rows, log_probabilities, "log_probabilities")
    arguments = (log_probabilities.data_ptr(), log_probabilities.stride(0), rows.data_ptr(), [len(rows), tokens])
    return _native.TokenSlice(*arguments), rows


def _checked_rows(rows: Tensor | None, values: Tensor, name: str) -> Tensor:
    """The rows of `values` that take part, all if not given."""
    members = len(values)
    if rows is None:
        rows = torch.arange(members, device=values.device)
    _tensor("rows", rows, [torch.int64], 1)
    _contiguous("rows", rows)
    _same_device(name, {name: values, "rows": rows})
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < members:
        raise ValueError(f"rows must be in 0 .. {members - 1}")
    return rows


def _workspace(size: int, device: torch.device) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def _signed_128(low: int, high: int) -> int:
    value = high << 64 | low
    return value - (1 << 128) if value >> 127 else value
