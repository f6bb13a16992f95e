"""The FFCV loader: a .beton file's pictures, read ahead by FFCV's pipeline, in the same bytes as any other loader's."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment
from popnet.data.beton import Beton
from popnet.data.pictures import DecodedBatch, PictureImages
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


@dataclass(frozen=True, eq=False)
class FfcvImages(PictureImages):
    """Pictures of a .beton file. `view_batch` reads the mapped file directly.

    Args:
        file: the file that `pictures` maps.
        batch_size: of all training batches but the last of an epoch.
        idle: compiled pipelines that no reading uses, also those of `first`; compiling takes seconds.
    """

    file: Beton | None = None
    batch_size: int = 1
    idle: dict[Hashable, list[Pipeline]] = field(default_factory=dict, repr=False)

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        for number, (request, batch) in enumerate(self._batches(requests, augment, decode_only=False)):
            yield out(number, request).copy_(batch.permute(0, 3, 1, 2))

    def read_decoded(self, requests: Sequence[BatchRequest]) -> Generator[DecodedBatch, None, None]:
        table = self.pictures.table
        for request, batch in self._batches(requests, Augment(), decode_only=True):
            numbers = self.among_all(request.indices)
            rows = table[numbers]
            rows[:, 0] = torch.arange(len(rows)) * batch.shape[1]
            rows[:, 1] = rows[:, 2] * rows[:, 3] * self.pictures.channels
            rows[:, 4] = 0
            pictures = native.pictures(batch.reshape(-1), rows, self.pictures.channels)
            yield DecodedBatch(pictures, torch.arange(len(rows)), numbers)

    def _batches(
        self, requests: Sequence[BatchRequest], augment: Augment, decode_only: bool
    ) -> Iterator[tuple[BatchRequest, Tensor]]:
        """One reading for each run of requests with one seed: only a member whose seeds change inside an epoch has
        more than one."""
        with self._pipeline(augment, decode_only) as pipeline:
            for (seed, epoch), group in groupby(requests, lambda r: (r.augment_seed, r.epoch)):
                run = list(group)
                order = self.among_all(torch.cat([request.indices for request in run]))
                with closing(pipeline.read(order, seed, epoch)) as reading, self.named_errors():
                    yield from zip(run, reading, strict=True)

    @contextmanager
    def _pipeline(self, augment: Augment, decode_only: bool) -> Iterator[Pipeline]:
        """A compiled pipeline for one reading: readings at the same time have one each."""
        idle = self.idle.setdefault((augment, decode_only, len(self.pictures)), [])
        pipeline = idle.pop() if idle else self._compiled(augment, decode_only)
        try:
            yield pipeline
        finally:
            idle.append(pipeline)

    def _compiled(self, augment: Augment, decode_only: bool) -> Pipeline:
        from popnet.data.ffcv_pipeline import Pipeline

        assert self.file is not None
        channels, height, width = self.train_shape
        job = native.PictureJob(
            self.pictures,
            (height, width, channels),
            self.training_framing(augment),
            mean=self.mean,
            std=self.std,
            **operations(augment, self.mean),
        )
        fields = self.file.image_field, self.file.other_fields
        return Pipeline(self.file.path, *fields, job, self.batch_size, self.threads, decode_only)
