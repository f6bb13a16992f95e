"""The FFCV loader: a .beton file's pictures, read ahead by FFCV's pipeline, in the same bytes as any other loader's."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment
from popnet.data.beton import Beton
from popnet.data.pictures import PictureImages
from popnet.data.resident import BatchRequest, Buffers, operations
from popnet.errors import ConfigError

if TYPE_CHECKING:
    from popnet.data.ffcv_pipeline import Pipeline

INSTALL = "`apt-get install libopencv-dev libturbojpeg0-dev pkg-config`, then `pip install 'popnet[ffcv]'`"


def check_ffcv() -> None:
    """Raises ConfigError, with the commands that install it, where FFCV cannot be imported."""
    if importlib.util.find_spec("ffcv") is None:
        raise ConfigError(f"loader: ffcv is not installed: {INSTALL}; or choose `loader: resident`")
    try:
        importlib.import_module("popnet.data.ffcv_pipeline")
    except ImportError as error:
        raise ConfigError(f"loader: ffcv cannot be imported ({error}): {INSTALL}; or `loader: resident`") from error


@dataclass(frozen=True)
class SharedBatch:
    """A batch whose pictures are decoded, and that each member augments by itself: `native.picture_batch(pictures,
    torch.arange(len(keys)), out, framing, keys=keys, seed=..., ...)`. Valid until the next is asked for."""

    pictures: native.Pictures
    keys: Tensor


@dataclass(frozen=True, eq=False)
class FfcvImages(PictureImages):
    """Pictures of a .beton file. `first` and `view_batch` read the mapped file directly.

    One reading feeds as many members as share its requests (equal shuffle, augment and kernels seeds). Members whose
    augment seeds differ share the decoding: `read_decoded`.

    Args:
        file: the file that `pictures` maps.
        batch_size: of all training batches but the last of an epoch.
    """

    file: Beton | None = None
    batch_size: int = 1

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        for number, (request, batch) in enumerate(self._batches(requests, augment, decode_only=False)):
            yield out(number, request).copy_(batch.permute(0, 3, 1, 2))

    def read_decoded(self, requests: Sequence[BatchRequest]) -> Iterator[SharedBatch]:
        """The batches' pictures, decoded only. Raises DataError as `read` does."""
        table = self.pictures.table
        for request, batch in self._batches(requests, Augment(), decode_only=True):
            rows = table[request.indices].clone()
            rows[:, 0] = torch.arange(len(rows)) * batch.shape[1]
            rows[:, 1] = rows[:, 2] * rows[:, 3] * self.pictures.channels
            rows[:, 4] = 0
            yield SharedBatch(native.pictures(batch.reshape(-1), rows, self.pictures.channels), request.indices)

    def _batches(
        self, requests: Sequence[BatchRequest], augment: Augment, decode_only: bool
    ) -> Iterator[tuple[BatchRequest, Tensor]]:
        """One reading for each run of requests with one seed: only a member whose seeds change inside an epoch has
        more than one."""
        pipeline = _pipeline(self, augment, decode_only)
        for (seed, epoch), group in groupby(requests, lambda r: (r.augment_seed, r.epoch)):
            run = list(group)
            order = torch.cat([request.indices for request in run])
            with closing(pipeline.read(order, seed, epoch)) as reading, self.named_errors():
                yield from zip(run, reading)


@lru_cache(maxsize=4)  # compiling takes seconds; members of one recipe in one process share what is compiled
def _pipeline(images: FfcvImages, augment: Augment, decode_only: bool) -> Pipeline:
    from popnet.data.ffcv_pipeline import Pipeline

    assert images.file is not None
    channels, height, width = images.train_shape
    job = native.PictureJob(
        images.pictures,
        (height, width, channels),
        images.training_framing(augment),
        mean=images.mean,
        std=images.std,
        **operations(augment, images.mean),
    )
    fields = images.file.image_field, images.file.other_fields
    return Pipeline(images.file.path, *fields, job, images.batch_size, images.threads, decode_only)
