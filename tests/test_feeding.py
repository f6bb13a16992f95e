"""One reading feeds the members of a process that go through one order, each with the bytes that it has alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_beton import make_folder, needs_ffcv, recipe
from test_pictures import jpeg_bytes, raw_pictures, smooth
from test_slots import pretended_gpu  # noqa: F401

from popnet import config, protocol, random
from popnet.config import Augment, Resize
from popnet.data import picture_sets
from popnet.data.beton import Encoded, open_beton, write_beton
from popnet.data.feeding import DevicePictures, FedPictures, Feed
from popnet.data.ffcv import FfcvImages
from popnet.data.pictures import DecodedBatch, PictureImages
from popnet.data.resident import BatchRequest, Images
from popnet.engine import gpu_worker
from popnet.engine.devices import platform
from popnet.engine.jobs import Died, Done, Failed, Job
from popnet.engine.pictures import images_for, mapped_pictures, share_pictures
from popnet.errors import DataError
from popnet.protocol import ORIGINAL, Member, View
from popnet.store import digest
from popnet.training.trainer import Trainer

CPU = torch.device("cpu")
EXAMPLES, BATCH, EPOCHS = 45, 16, 3
BATCHES = EPOCHS * 3
CROPS = Augment.model_validate({"resized_crop": True, "flip": True})
CONSTANTS = (0.5,) * 3, (0.25,) * 3, Resize(train=20, test=24), str


@dataclass(frozen=True, eq=False)
class Counted(PictureImages):
    """Counts the batches that are read, and those that are augmented."""

    counts: Counter = field(default_factory=Counter)

    def read_decoded(self, requests: Sequence[BatchRequest]) -> Generator[DecodedBatch, None, None]:
        for batch in super().read_decoded(requests):
            self.counts["read"] += 1
            yield batch

    def augmented(self, *arguments: Any) -> torch.Tensor:
        self.counts["augmented"] += 1
        return super().augmented(*arguments)


@pytest.fixture
def images() -> Counted:
    pictures = [smooth(30 + k % 7, 34 - k % 5, k) for k in range(EXAMPLES)]
    return Counted(raw_pictures(pictures), torch.arange(EXAMPLES) % 4, *CONSTANTS)


def requests(epoch: int, shuffle: int = 1, augment: int = 1) -> list[BatchRequest]:
    order = torch.from_numpy(random.permutation(shuffle, epoch, EXAMPLES))
    return [BatchRequest(indices, augment, epoch) for indices in order.split(BATCH)]


def epoch_of(images: Images, wanted: Sequence[BatchRequest], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    buffer = torch.empty(BATCH, *images.train_shape, dtype=dtype)
    with closing(images.read(wanted, CROPS, lambda number, request: buffer[: len(request.indices)])) as batches:
        return [batch.clone() for batch in batches]


def side_by_side(feed: Feed, groups: Sequence[Any], run: Callable[[int, FedPictures], Any]) -> list[Any]:
    """What `run` gives for each member, all at once in threads; a member leaves the feed when it is done."""
    with ExitStack() as stack, ThreadPoolExecutor(len(groups)) as pool:
        places = [ExitStack() for _ in groups]
        fed = [place.enter_context(feed.member(group)) for place, group in zip(places, groups)]
        for place in places:
            stack.enter_context(place)

        def member(number: int) -> Any:
            with places[number]:
                return run(number, fed[number])

        return list(pool.map(member, range(len(groups))))


def assert_equal(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("groups", "shuffles", "augments", "read", "augmented"),
    [
        ("aaa", (1, 1, 1), (1, 1, 1), BATCHES, BATCHES),
        ("aaa", (1, 1, 1), (1, 2, 3), BATCHES, 3 * BATCHES),
        ("aaa", (1, 2, 1), (1, 1, 1), 2 * BATCHES, 2 * BATCHES),
        ("abb", (1, 1, 1), (1, 1, 1), 2 * BATCHES, 2 * BATCHES),
        ("abc", (1, 2, 3), (1, 2, 3), 3 * BATCHES, 3 * BATCHES),
    ],
)
def test_members_of_one_order_share_what_can_be_shared(
    images: Counted,
    groups: str,
    shuffles: tuple[int, ...],
    augments: tuple[int, ...],
    read: int,
    augmented: int,
    dtype: torch.dtype,
) -> None:
    """All with equal augment seeds; what is decoded with others; nothing where orders differ. The bytes stay."""

    def run(number: int, fed: FedPictures) -> list[torch.Tensor]:
        seeds = shuffles[number], augments[number]
        return [batch for epoch in range(EPOCHS) for batch in epoch_of(fed, requests(epoch, *seeds), dtype)]

    made = side_by_side(Feed(images, CPU), groups, run)
    assert dict(images.counts) == {"read": read, "augmented": augmented}
    for found, shuffle, augment in zip(made, shuffles, augments):
        wanted = [requests(epoch, shuffle, augment) for epoch in range(EPOCHS)]
        assert_equal(found, [batch for each in wanted for batch in epoch_of(images, each, dtype)])


def test_who_stops_or_comes_later_holds_nobody_up(images: Counted) -> None:
    """One leaves in the middle of an epoch, one after the first epoch, one enters an epoch of its own directly."""
    straight = [epoch_of(images, requests(epoch)) for epoch in range(EPOCHS)]

    def run(number: int, fed: FedPictures) -> list[list[torch.Tensor]]:
        if number == 0:
            buffer = torch.empty(BATCH, 3, 20, 20)
            with closing(fed.read(requests(0), CROPS, lambda _, request: buffer[: len(request.indices)])) as batches:
                return [[next(batches).clone()]]
        epochs = {1: range(1), 2: range(2, 3), 3: range(EPOCHS)}[number]
        return [epoch_of(fed, requests(epoch)) for epoch in epochs]

    stopped, short, direct, whole = side_by_side(Feed(images, CPU), "aaaa", run)
    assert_equal(stopped[0], straight[0][:1])
    assert_equal(short[0], straight[0])
    assert_equal(direct[0], straight[2])
    for found, expected in zip(whole, straight, strict=True):
        assert_equal(found, expected)


def test_an_unreadable_picture_is_told_to_all(tmp_path: Path) -> None:
    data = [jpeg_bytes(smooth(30, 30, k)) for k in range(EXAMPLES)]
    data[17] = data[17][: data[17].size // 2]
    write_beton(tmp_path / "x.beton", [Encoded(each, 30, 30, True) for each in data], np.zeros(EXAMPLES, np.int64), 3)
    source = mapped_pictures(open_beton(tmp_path / "x.beton"))
    images = PictureImages(source.pictures, source.labels, *CONSTANTS[:3], source.name_of)

    def run(number: int, fed: FedPictures) -> None:
        with pytest.raises(DataError, match=r"x\.beton: image 17: cannot be decoded"):
            epoch_of(fed, requests(0))

    side_by_side(Feed(images, CPU), "aaa", run)


def test_batches_and_views_are_brought_to_a_device(images: Counted) -> None:
    """Through memory of the host; the meta device takes anything and keeps nothing, so its shapes are looked at."""
    here, there = DevicePictures(images, CPU), DevicePictures(images, torch.device("meta"))
    everything = torch.arange(EXAMPLES)
    for view in (ORIGINAL, View(True, 2, -3)):
        outs = [torch.empty(EXAMPLES, *images.view_shape) for _ in range(2)]
        expected = images.view_batch(everything, outs[0], view)
        assert torch.equal(here.view_batch(everything, outs[1], view), expected)
    assert_equal(epoch_of(here, requests(1)), epoch_of(images, requests(1)))
    assert_equal(epoch_of(here.first(EXAMPLES), requests(1)), epoch_of(images, requests(1)))
    out = torch.empty(EXAMPLES, *images.view_shape, device="meta")
    assert there.view_batch(everything, out, ORIGINAL) is out
    batches = there.read(requests(0), CROPS, lambda _, r: torch.empty(len(r.indices), 3, 20, 20, device="meta"))
    assert [tuple(batch.shape) for batch in batches] == [(16, 3, 20, 20), (16, 3, 20, 20), (13, 3, 20, 20)]
    assert there.labels.device.type == "meta"


# ---- the worker on a GPU ---------------------------------------------------------------------------------------------


def members(**changes: Any) -> tuple[Member, ...]:
    """Three that differ in their initial weights alone."""
    sizes = {"resize": {"train": 20, "test": 24}, "augment": {"resized_crop": True, "flip": True}}
    made = recipe(**(sizes | changes)).model_dump(by_alias=True)
    experiment = {"name": "x", "recipe": made, "population": 3, "variants": [{"name": "a", "vary": ["init"]}]}
    return protocol.plan(config.from_mapping(experiment), platform("cpu")).members


@pytest.mark.parametrize("loader", ["resident", pytest.param("ffcv", marks=needs_ffcv)])
def test_a_gpu_worker_feeds_its_members_from_one_reading(
    loader: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_folder(tmp_path / "train", classes=4, each=12, seed=1)
    make_folder(tmp_path / "test", classes=4, each=3, seed=2)
    dataset = picture_sets.image_folder(tmp_path / "train", tmp_path / "test")
    shared = share_pictures(dataset, "labels", from_files=False)
    chosen = members()
    if loader == "ffcv":
        source = dataset.train
        write_beton(tmp_path / "x.beton", [source.encoded(k) for k in range(48)], source.labels, 3)
        chosen = members(loader={"name": "ffcv", "path": str(tmp_path / "x.beton")})
    readings: list[int] = []
    kind = FfcvImages if loader == "ffcv" else PictureImages
    read = kind.read

    def counted(self: PictureImages, wanted: Any, *rest: Any) -> Any:
        readings.append(wanted[0].epoch)
        return read(self, wanted, *rest)

    started, begin = threading.Barrier(len(chosen)), Feed.begin

    def together(feed: Feed, fed: Any, requests: Any, augment: Any) -> Any:
        """Jobs arrive one by one: the first member waits for the others to have begun."""
        if requests[0].epoch == 0:
            started.wait(120)
        return begin(feed, fed, requests, augment)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "read", counted)
        patched.setattr(Feed, "begin", together)
        found = trained_by_a_worker(shared, chosen, patched)
    assert readings == [0, 1], "one reading an epoch"
    for number, m in enumerate(chosen):
        train, test = images_for(members()[number].recipe, shared, shared.attach())
        plain = Trainer(m, train, test, 4, (ORIGINAL,))
        plain.run()
        assert found[number] == digest(plain.weights())


def trained_by_a_worker(shared: Any, chosen: Sequence[Member], patched: pytest.MonkeyPatch) -> dict[int, str]:
    """The weights' digests that a worker with a seat for each of the members sends over its pipe."""
    patched.setattr(gpu_worker, "_DEVICE", CPU)
    patched.setattr(gpu_worker, "platform", lambda device: chosen[0].platform)
    patched.setattr(torch.cuda, "synchronize", lambda *_: None)
    ours, theirs = Pipe()
    worker = gpu_worker.GpuWorker(theirs, {"data": (shared, shared.attach())}, len(chosen))
    serving = threading.Thread(target=worker.run)
    serving.start()
    ours.recv()
    for number, m in enumerate(chosen):
        ours.send((number, Job(m, (ORIGINAL,), "data", ())))
    ended: dict[int, str] = {}
    while len(ended) < len(chosen):
        assert ours.poll(120)
        number, event = ours.recv()
        assert not isinstance(event, (Failed, Died)), event
        if isinstance(event, Done):
            assert event.finished is not None
            ended[number] = event.finished.weights_digest
    ours.send(None)
    serving.join()
    return ended
