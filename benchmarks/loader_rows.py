"""What `loader.py` measures: each row reads the same images its own way, batch after batch.

A row is a function of (folder, size, workers) that opens the images and returns an epoch: a function of its number that
yields, for each batch, how many images have come as float32.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from popnet import native
from popnet.config import Augment, Resize
from popnet.data.beton import Encoded, open_beton, write_beton
from popnet.data.ffcv import FfcvImages
from popnet.data.pictures import PictureImages, uniform_pictures
from popnet.data.resident import BatchRequest, Images, ResidentImages
from popnet.engine.pictures import mapped_pictures
from popnet.random import Source

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


@dataclass(frozen=True)
class Size:
    """Which images are read, and what becomes of them before they are flipped and normalised.

    Attributes:
        count: of an epoch.
        stored: pixels of a stored image's side.
        side: of a batch's image.
        batch: images.
        jpeg: stored as JPEG, read by a random resized crop; else raw, cropped from 4 pixels of zero padding.
        partly: share of an epoch that is enough to time a DataLoader.
    """

    count: int
    stored: int
    side: int
    batch: int
    jpeg: bool
    partly: float

    @property
    def augment(self) -> Augment:
        return Augment.model_validate({"resized_crop": True, "flip": True} if self.jpeg else {"crop": 4, "flip": True})

    @property
    def resize(self) -> Resize | None:
        return Resize(train=self.side, test=self.side) if self.jpeg else None


SIZES = {
    "CIFAR": Size(50_000, 32, 32, 512, jpeg=False, partly=0.2),
    "JPEG": Size(2_000, 256, 224, 64, jpeg=True, partly=1.0),
}

Epoch = Callable[[int], Iterator[int]]
Row = Callable[[Path, Size, int], Epoch]


def write_images(folder: Path, size: Size) -> None:
    """The images as `images.npy`, as `images.beton`, and, where they are JPEGs, as a file each."""
    generator = np.random.default_rng(1)
    pixels = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (size.count, size.stored, size.stored, 3))
    encoded = []
    for number in range(size.count):
        pixels[number] = image = _image(generator, size.stored)
        data = image.reshape(-1)
        if size.jpeg:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=90)
            (folder / f"{number}.jpg").write_bytes(file.getvalue())
            data = np.frombuffer(file.getvalue(), np.uint8)
        encoded.append(Encoded(data, size.stored, size.stored, size.jpeg))
    write_beton(folder / "images.beton", encoded, np.zeros(size.count, np.int64), 3)


def _image(generator: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """One that compresses like a photograph: coarse noise, enlarged, under fine noise."""
    coarse = generator.integers(0, 256, (max(side // 16, 2), max(side // 16, 2), 3), dtype=np.uint8)
    enlarged = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    return np.clip(enlarged + generator.integers(-12, 13, enlarged.shape, dtype=np.int16), 0, 255).astype(np.uint8)


# ---- what people write ----


class PilImages(Dataset):
    """What torchvision's data sets are inside: files, or arrays turned into PIL images, then transformed."""

    def __init__(self, folder: Path, size: Size) -> None:
        crop = transforms.RandomResizedCrop(size.side) if size.jpeg else transforms.RandomCrop(size.side, padding=4)
        flip, normalise = transforms.RandomHorizontalFlip(), transforms.Normalize(MEAN, STD)
        self.transform = transforms.Compose([crop, flip, transforms.ToTensor(), normalise])
        self.folder, self.size = folder, size
        self.pixels = np.load(folder / "images.npy", mmap_mode="r")

    def __len__(self) -> int:
        return self.size.count

    def __getitem__(self, index: int) -> Tensor:
        if not self.size.jpeg:
            return self.transform(Image.fromarray(self.pixels[index]))
        with Image.open(self.folder / f"{index}.jpg") as picture:
            return self.transform(picture.convert("RGB"))


def dataloader(folder: Path, size: Size, workers: int) -> Epoch:
    """PyTorch's, as it comes. Before an epoch's first batch the workers start: whoever measures leaves it out."""
    loader = DataLoader(PilImages(folder, size), batch_size=size.batch, shuffle=True, num_workers=workers)

    def epoch_of(epoch: int) -> Iterator[int]:
        batches = iter(loader)
        for _ in range(int(size.partly * len(loader))):
            yield len(next(batches))

    return epoch_of


def tensor_augmentation(folder: Path, size: Size, threads: int) -> Epoch:
    """As airbench does it: blocks of a tenth of the decoded images as tensors, normalised, flipped by a mask, cropped
    by slices of padded copies, rows first. At JPEG size all crops are of one size: tensors are resized only alike."""
    torch.set_num_threads(threads)
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    padding = 0 if size.jpeg else 4
    shifts = size.stored + 2 * padding - size.side + 1

    def epoch_of(epoch: int) -> Iterator[int]:
        for indices in torch.randperm(size.count).split(size.count // 10):
            block = (images[indices].float() / 255 - mean) / std
            flips = (torch.rand(len(block)) < 0.5).view(-1, 1, 1, 1)
            padded = torch.nn.functional.pad(torch.where(flips, block.flip(-1), block), (padding,) * 4)
            dy, dx = torch.randint(0, shifts, (2, len(block)))
            rows = torch.empty(len(block), 3, size.side, padded.shape[3])
            out = torch.empty(len(block), 3, size.side, size.side)
            for shift in range(shifts):
                rows[dy == shift] = padded[dy == shift, :, shift : shift + size.side]
            for shift in range(shifts):
                out[dx == shift] = rows[dx == shift, :, :, shift : shift + size.side]
            yield from (len(batch) for batch in out.split(size.batch))

    return epoch_of


def plain_ffcv(folder: Path, size: Size, workers: int, layout: str) -> Epoch:
    """FFCV with its own operations: NHWC normalises by its NormalizeImage; NCHW is its CIFAR example's way, to a tensor
    before torchvision's Normalize."""
    from ffcv import transforms as ffcv
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption

    mean, std = np.array(MEAN) * 255, np.array(STD) * 255
    operations: list[Any]
    if size.jpeg:
        operations = [RandomResizedCropRGBImageDecoder((size.side, size.side)), ffcv.RandomHorizontalFlip()]
    else:
        operations = [SimpleRGBImageDecoder(), ffcv.RandomHorizontalFlip(), ffcv.RandomTranslate(4)]
    if layout == "NHWC":
        operations += [ffcv.NormalizeImage(mean, std, np.float32)]
    else:
        operations += [ffcv.ToTensor(), ffcv.ToTorchImage(), ffcv.Convert(torch.float32)]
        operations += [transforms.Normalize(mean, std)]
    loader = Loader(
        str(folder / "images.beton"),
        batch_size=size.batch,
        num_workers=workers,
        os_cache=True,
        order=OrderOption.RANDOM,
        seed=1,
        drop_last=False,
        pipelines={"image": operations, "label": None},
    )
    return lambda epoch: (len(images) for (images,) in loader)


# ---- popnet's ----


def popnets_ffcv(folder: Path, size: Size, workers: int) -> Epoch:
    """popnet's operation in FFCV's pipeline, with the copy into the training's buffer."""
    source = mapped_pictures(open_beton(folder / "images.beton"))
    constants = MEAN, STD, size.resize, source.name_of, workers
    images = FfcvImages(source.pictures, source.labels, *constants, file=source.file, batch_size=size.batch)
    return _read_by(images, size, torch.channels_last, workers)


def resident(folder: Path, size: Size, threads: int, layout: str) -> Epoch:
    """popnet's native loader of decoded images in memory."""
    pixels = torch.from_numpy(np.load(folder / "images.npy"))
    labels = torch.zeros(size.count, dtype=torch.int64)
    memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    if size.jpeg:
        pictures = PictureImages(uniform_pictures(pixels), labels, MEAN, STD, size.resize, str, threads)
        return _read_by(pictures, size, memory_format, threads)
    return _read_by(_Threaded(pixels, labels, MEAN, STD, threads), size, memory_format, threads)


@dataclass(frozen=True)
class _Threaded(ResidentImages):
    """The resident loader on several threads, where a training process has one."""

    threads: int = 1

    def training_batch(
        self, indices: Tensor, out: Tensor, augment: Augment, seed: int, epoch: int, now: Tensor | None = None
    ) -> Tensor:
        constants: dict[str, Any] = {"mean": self.mean, "std": self.std, "crop": augment.crop, "flip": augment.flip}
        return native.augment(self.images, indices, out, seed=seed, epoch=epoch, threads=self.threads, **constants)


def _read_by(images: Images, size: Size, memory_format: torch.memory_format, threads: int) -> Epoch:
    """Epochs as a trainer reads them, into one buffer; the permutation counts."""
    buffer = torch.empty((size.batch, 3, size.side, size.side)).to(memory_format=memory_format)

    def epoch_of(epoch: int) -> Iterator[int]:
        order = native.permutation(size.count, seed=1, epoch=epoch, source=Source.SHUFFLE, threads=threads)
        requests = [BatchRequest(indices, 1, epoch) for indices in order.split(size.batch)]
        for batch in images.read(requests, size.augment, lambda _, request: buffer[: len(request.indices)]):
            yield len(batch)

    return epoch_of


def plain_copying(folder: Path, size: Size, threads: int) -> Epoch:
    """No loader: the decoded images' bytes gathered in a random order, and as many float32 as a batch has written."""
    torch.set_num_threads(threads)
    rows = torch.from_numpy(np.load(folder / "images.npy")).view(size.count, -1)
    pixels = torch.empty((size.batch, rows.shape[1]), dtype=torch.uint8)
    out = torch.empty((size.batch, size.side**2 * 3))

    def epoch_of(epoch: int) -> Iterator[int]:
        order = native.permutation(size.count, seed=1, epoch=epoch, source=Source.SHUFFLE)
        for indices in order.split(size.batch):
            torch.index_select(rows, 0, indices, out=pixels[: len(indices)])
            out[: len(indices)].fill_(0.0)
            yield len(indices)

    return epoch_of


def _with_no_workers(folder: Path, size: Size, workers: int) -> Epoch:
    return dataloader(folder, size, 0)


def _on_one_thread(folder: Path, size: Size, workers: int) -> Epoch:
    return resident(folder, size, 1, "NHWC")


DEFAULT_DATALOADER = "DataLoader, no workers"
PLAIN_NHWC, PLAIN_NCHW, OURS = "plain FFCV, NHWC", "plain FFCV, NCHW", "popnet's FFCV"
RESIDENT_NHWC, RESIDENT_NCHW = "resident, NHWC", "resident, NCHW"

ROWS: Mapping[str, Row] = {
    DEFAULT_DATALOADER: _with_no_workers,
    "DataLoader": dataloader,
    "tensor augmentation": tensor_augmentation,
    PLAIN_NCHW: partial(plain_ffcv, layout="NCHW"),
    PLAIN_NHWC: partial(plain_ffcv, layout="NHWC"),
    OURS: popnets_ffcv,
    "resident, NHWC, one thread": _on_one_thread,
    RESIDENT_NCHW: partial(resident, layout="NCHW"),
    RESIDENT_NHWC: partial(resident, layout="NHWC"),
    "plain copying": plain_copying,
}
"""By name; every row but two has as many threads or processes as it is given."""
