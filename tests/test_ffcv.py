"""The FFCV loader gives any other loader's bytes: for any number of workers, in any epoch, after any interruption."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pictures import decoded_by_turbojpeg, jpeg_bytes, smooth, turbojpeg

from popnet import native, protocol, random
from popnet.config import Augment, Resize
from popnet.data.beton import Encoded, write_beton
from popnet.data.ffcv import FfcvImages, check_ffcv
from popnet.data.pictures import PictureImages, uniform_pictures
from popnet.data.resident import BatchRequest, Images, ResidentImages
from popnet.engine.pictures import mapped_pictures, open_beton
from popnet.errors import ConfigError, DataError

pytest.importorskip("ffcv", reason="needs FFCV: pip install 'popnet[ffcv]'")

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
EXAMPLES, BATCH = 150, 32
CROPS = Augment.model_validate({"resized_crop": True, "flip": True, "cutout": 6})
MOVES = Augment(crop=4, flip=True, translate=2, cutout=8)
SIZES = Resize(train=40, test=48)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([smooth(32, 32, seed) for seed in range(EXAMPLES)])


@pytest.fixture(scope="module")
def raw_file(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "raw.beton"
    write_beton(path, [Encoded(image.reshape(-1), 32, 32, False) for image in images], np.arange(EXAMPLES) % 10, 3)
    return path


@pytest.fixture(scope="module")
def jpeg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [smooth(40 + 3 * (k % 17), 70 - 2 * (k % 13), k) for k in range(EXAMPLES)]
    encoded = [Encoded(jpeg_bytes(picture), *picture.shape[:2], True) for picture in pictures]
    path = tmp_path_factory.mktemp("jpeg") / "jpeg.beton"
    write_beton(path, encoded, np.arange(EXAMPLES) % 10, 3)
    return path


def ffcv_images(path: Path, workers: int = 1, resize: Resize | None = None) -> FfcvImages:
    source = mapped_pictures(open_beton(path))
    parts = source.pictures, source.labels, MEAN, STD, resize, source.name_of, workers
    return FfcvImages(*parts, file=source.file, batch_size=BATCH)


def requests(epoch: int, shuffle: int = 1, augment: int = 1) -> list[BatchRequest]:
    order = torch.from_numpy(random.permutation(shuffle, epoch, EXAMPLES))
    return [BatchRequest(indices, augment, epoch) for indices in order.split(BATCH)]


def epoch_of(
    images: Images, wanted: Sequence[BatchRequest], augment: Augment, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    def out(number: int, request: BatchRequest) -> torch.Tensor:
        shape = (len(request.indices), *images.train_shape)
        return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)

    return [batch.clone() for batch in images.read(wanted, augment, out)]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.fixture(scope="module")
def resident(images: np.ndarray) -> ResidentImages:
    return ResidentImages(torch.from_numpy(images), torch.arange(EXAMPLES) % 10, MEAN, STD)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_resident_loader_for_any_number_of_workers(
    resident: ResidentImages, raw_file: Path, dtype: torch.dtype
) -> None:
    for workers in (1, 2, 4):
        loader = ffcv_images(raw_file, workers)
        for epoch in range(3):
            expected = epoch_of(resident, requests(epoch), MOVES, dtype)
            assert equal(expected, epoch_of(loader, requests(epoch), MOVES, dtype)), (workers, epoch)


def test_random_resized_crops_equal_the_resident_loaders(images: np.ndarray, raw_file: Path) -> None:
    pictures = uniform_pictures(torch.from_numpy(images))
    resident = PictureImages(pictures, torch.arange(EXAMPLES), MEAN, STD, SIZES, str)
    for workers in (1, 2):
        loader = ffcv_images(raw_file, workers, SIZES)
        assert equal(epoch_of(resident, requests(3), CROPS), epoch_of(loader, requests(3), CROPS))


def test_jpegs_are_the_same_for_any_number_of_workers_and_decoded_before(jpeg_file: Path) -> None:
    """Decoding first, to memory, as the resident loader has it, or in the pipeline: the same bytes."""
    source = mapped_pictures(open_beton(jpeg_file))
    decoded = [native.decode_picture(source.pictures, k).numpy() for k in range(EXAMPLES)]
    table = source.pictures.table.clone()
    table[:, 1] = table[:, 2] * table[:, 3] * 3
    table[:, 0] = table[:, 1].cumsum(0) - table[:, 1]
    table[:, 4] = 0
    pixels = torch.from_numpy(np.concatenate([picture.reshape(-1) for picture in decoded]))
    resident = PictureImages(native.pictures(pixels, table, 3), source.labels, MEAN, STD, SIZES, str)
    loaders = [ffcv_images(jpeg_file, workers, SIZES) for workers in (1, 2, 4)]
    for epoch in range(3):
        expected = epoch_of(resident, requests(epoch), CROPS)
        assert all(equal(expected, epoch_of(loader, requests(epoch), CROPS)) for loader in loaders)


def test_jpegs_are_libturbojpegs(tmp_path: Path) -> None:
    """The pipeline's pixels are those of libturbojpeg called with the same flags, 0: neither resized nor augmented."""
    library = turbojpeg()
    encoded = [jpeg_bytes(smooth(30, 44, seed), subsampling=seed % 3) for seed in range(EXAMPLES)]
    path = tmp_path / "same.beton"
    write_beton(path, [Encoded(data, 30, 44, True) for data in encoded], np.zeros(EXAMPLES, np.int64), 3)
    pixels = torch.from_numpy(np.stack([decoded_by_turbojpeg(library, data, 30, 44) for data in encoded]))
    expected = ResidentImages(pixels, torch.zeros(EXAMPLES, dtype=torch.int64), MEAN, STD)
    for workers in (1, 2, 4):
        loader = ffcv_images(path, workers)
        assert equal(epoch_of(expected, requests(0), Augment()), epoch_of(loader, requests(0), Augment()))


def test_an_epoch_can_be_entered_directly_and_again(raw_file: Path) -> None:
    loader, other = ffcv_images(raw_file), ffcv_images(raw_file, 2)
    straight = [epoch_of(loader, requests(epoch), MOVES) for epoch in range(3)]
    assert equal(straight[2], epoch_of(other, requests(2), MOVES))
    with contextlib.closing(
        loader.read(requests(1), MOVES, lambda _, r: torch.empty(len(r.indices), 3, 32, 32))
    ) as abandoned:
        next(abandoned)
        assert equal(straight[0], epoch_of(other, requests(0), MOVES)), "two live loaders"
    assert equal(straight[1], epoch_of(loader, requests(1), MOVES)), "after an abandoned epoch"


def test_seeds_are_independent(raw_file: Path) -> None:
    """Another shuffle seed permutes the same augmented images; another augment seed leaves the order."""
    loader = ffcv_images(raw_file)

    def by_image(shuffle: int, augment: int) -> dict[int, bytes]:
        wanted = requests(0, shuffle, augment)
        joined = torch.cat(epoch_of(loader, wanted, MOVES)).numpy()
        order = torch.cat([request.indices for request in wanted]).tolist()
        return {index: image.tobytes() for index, image in zip(order, joined)}

    base, shuffled, augmented = by_image(1, 1), by_image(2, 1), by_image(1, 2)
    assert base == shuffled
    assert list(base) != list(shuffled)
    assert list(base) == list(augmented)
    assert sum(base[index] != augmented[index] for index in base) > 0.9 * EXAMPLES


def test_a_seed_that_changes_inside_an_epoch(resident: ResidentImages, raw_file: Path) -> None:
    wanted = requests(0)
    wanted[2:] = [BatchRequest(r.indices, 9, 0) for r in wanted[2:]]
    assert equal(epoch_of(resident, wanted, MOVES), epoch_of(ffcv_images(raw_file), wanted, MOVES))


def test_members_that_augment_differently_share_what_is_decoded(jpeg_file: Path) -> None:
    loader = ffcv_images(jpeg_file, 2, SIZES)
    wanted = {seed: requests(1, augment=seed) for seed in (1, 7)}
    expected = {seed: epoch_of(loader, wanted[seed], CROPS) for seed in wanted}
    for number, batch in enumerate(loader.read_decoded(wanted[1])):
        for seed, request in ((seed, each[number]) for seed, each in wanted.items()):
            out = torch.empty_like(expected[seed][number])
            assert torch.equal(loader.augmented(batch, request, CROPS, out), expected[seed][number])


def test_readings_at_the_same_time_do_not_meet(raw_file: Path) -> None:
    """Two members of one process, each in an order of its own, batch by batch; their pipelines serve who comes next."""
    loader = ffcv_images(raw_file, 2)
    wanted = [requests(1, shuffle=seed) for seed in (1, 2)]
    expected = [epoch_of(loader, each, MOVES) for each in wanted]
    outs = [torch.empty(BATCH, 3, 32, 32).to(memory_format=torch.channels_last) for _ in wanted]
    readings = [
        loader.read(each, MOVES, lambda _, request, out=out: out[: len(request.indices)])
        for each, out in zip(wanted, outs)
    ]
    for number in range(len(wanted[0])):
        for reading, batches in zip(readings, expected):
            assert torch.equal(next(reading), batches[number])
    for reading in readings:
        reading.close()
    assert [len(idle) for idle in loader.idle.values()] == [2]
    assert loader.first(EXAMPLES).idle is loader.idle


def test_views_are_read_from_the_file(images: np.ndarray, raw_file: Path) -> None:
    pictures = uniform_pictures(torch.from_numpy(images))
    resident = PictureImages(pictures, torch.arange(EXAMPLES), MEAN, STD, SIZES, str)
    loader, everything = ffcv_images(raw_file, 2, SIZES), torch.arange(EXAMPLES)
    for view in (protocol.ORIGINAL, protocol.View(True, 4, -4), protocol.View(False, -100, 100)):
        outs = [torch.empty(EXAMPLES, *loader.view_shape) for _ in range(2)]
        assert torch.equal(loader.view_batch(everything, outs[0], view), resident.view_batch(everything, outs[1], view))


def test_a_part_is_read_as_in_the_whole(resident: ResidentImages, raw_file: Path) -> None:
    loader = ffcv_images(raw_file, 2)
    numbers = torch.from_numpy(random.permutation(3, 0, EXAMPLES)[:50])
    parts, asked = (loader.chosen(numbers), resident.chosen(numbers)), torch.arange(50).flip(0)
    wanted = [BatchRequest(indices, 5, 2) for indices in asked.split(BATCH)]
    expected = epoch_of(resident, [BatchRequest(numbers[indices], 5, 2) for indices in asked.split(BATCH)], MOVES)
    for part in parts:
        assert part.labels.tolist() == resident.labels[numbers].tolist()
        assert equal(epoch_of(part, wanted, MOVES), expected)
    decoded = [(batch.places.clone(), batch.keys.clone()) for batch in parts[0].read_decoded(wanted)]
    assert torch.equal(torch.cat([keys for _, keys in decoded]), numbers[asked])


def test_torchs_threads_stay(raw_file: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        epoch_of(ffcv_images(raw_file, 4), requests(0), MOVES)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


PLAIN = """
import sys, hashlib, numpy as np
from ffcv.loader import Loader, OrderOption
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.transforms import RandomHorizontalFlip
from ffcv.fields.basics import IntDecoder
pipeline = [SimpleRGBImageDecoder(), RandomHorizontalFlip()]
loader = Loader(sys.argv[1], 32, num_workers=2, order=OrderOption.RANDOM, seed=1, drop_last=False,
                pipelines={"image": pipeline, "label": [IntDecoder()]})
batches = [(images.copy(), labels.copy()) for images, labels in loader]
for part in zip(*batches):
    print(hashlib.sha256(b"".join(array.tobytes() for array in part)).hexdigest())
"""

OURS = """
import sys, hashlib, torch
sys.path[:0] = sys.argv[2:]
import test_ffcv
loader = test_ffcv.ffcv_images(test_ffcv.Path(sys.argv[1]), 2)
batches = test_ffcv.epoch_of(loader, test_ffcv.requests(1), test_ffcv.MOVES)
print(hashlib.sha256(b"".join(batch.numpy().tobytes() for batch in batches)).hexdigest())
"""


def started(program: str, *arguments: Any) -> subprocess.Popen[str]:
    environment = {"NUMBA_NUM_THREADS": "2", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_plain_ffcv_differs_from_run_to_run_and_popnets_does_not(raw_file: Path) -> None:
    """With FFCV's own operations, `seed=1` and two workers, the order is the seed's and the images are nobody's."""
    processes = [started(PLAIN, raw_file) for _ in range(2)]
    processes.append(started(OURS, raw_file, Path(__file__).parent))
    first, second, restarted = (process.communicate(timeout=900)[0].split() for process in processes)
    assert first[1] == second[1], "the order of the labels"
    assert first[0] != second[0], "the augmented images"
    here = epoch_of(ffcv_images(raw_file), requests(1), MOVES)
    assert restarted == [hashlib.sha256(b"".join(batch.numpy().tobytes() for batch in here)).hexdigest()]


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    data = [jpeg_bytes(smooth(40, 40, k)) for k in range(40)]
    data[17] = data[17].copy()
    data[17][len(data[17]) // 3 :] = 0
    path = tmp_path / "damaged.beton"
    write_beton(path, [Encoded(each, 40, 40, True) for each in data], np.zeros(40, np.int64), 3)
    loader = ffcv_images(path)
    wanted = [BatchRequest(indices, 1, 0) for indices in torch.arange(40).split(BATCH)]
    with pytest.raises(DataError, match=r"damaged\.beton: image 17: cannot be decoded"):
        epoch_of(loader, wanted, Augment())
    with pytest.raises(DataError, match=r"damaged\.beton: image 17: cannot be decoded"):
        loader.view_batch(torch.arange(40), torch.empty(40, 3, 40, 40), protocol.ORIGINAL)


def test_without_ffcv_the_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed: `apt-get install .*`, then `pip install"):
        check_ffcv()
