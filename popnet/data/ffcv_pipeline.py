"""The only module that imports FFCV: one operation that calls popnet's native code from FFCV's compiled pipeline.

What FFCV is made to do differently, and why:

* Its random operations draw from generators that nobody seeds. Here the pipeline is one operation, whose draws are
  functions of (seed, epoch, image).
* It sets PyTorch's number of threads to its own, which would change what a training computes: it sets numba's alone.
* Where there is a GPU, it makes streams and events on it: batches stay on the CPU here, and it leaves the GPU alone.
* Its own threads come from numba, whose pool cannot serve two loaders at once: the operation is compiled for one
  thread, and the native code divides the batch.
* numba freezes what compiled code captures: it captures addresses, and the native job behind them changes.
"""

from __future__ import annotations

import ctypes
import queue
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from popnet import native
from popnet.errors import DataError

_torch_threads = torch.get_num_threads()
from ffcv.loader import Loader, epoch_iterator  # noqa: E402
from ffcv.pipeline import PipelineSpec  # noqa: E402
from ffcv.pipeline.allocation_query import AllocationQuery  # noqa: E402
from ffcv.pipeline.compiler import Compiler  # noqa: E402
from ffcv.pipeline.operation import Operation  # noqa: E402
from ffcv.traversal_order.base import TraversalOrder  # noqa: E402

torch.set_num_threads(_torch_threads)


def _set_numba_threads(compiler: Any, threads: int) -> None:
    compiler.num_threads = max(threads, 1)
    numba.set_num_threads(min(compiler.num_threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


Compiler.set_num_threads = classmethod(_set_numba_threads)
epoch_iterator.IS_CUDA = False


class _Fill(Operation):  # type: ignore[misc]
    """Decodes, frames, augments and normalises a batch: float32 [batch, height, width, channels]."""

    def __init__(self, job: native.PictureJob, threads: int) -> None:
        super().__init__()
        self._job, self._threads = job, threads

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
        dtype = np.dtype(np.float32)
        state = replace(previous_state, jit_mode=True, shape=self._job.shape, dtype=dtype)
        return state, AllocationQuery(self._job.shape, dtype)

    def generate_code(self) -> Callable[..., Any]:
        integer = ctypes.c_int64
        fill = ctypes.CFUNCTYPE(None, *[integer] * 5)(self._job.fill_address)
        job, threads = self._job.address, self._threads

        def run(batch_indices, destination, metadata, storage_state):  # type: ignore[no-untyped-def]
            count = len(batch_indices)
            fill(job, batch_indices.ctypes.data, count, destination.ctypes.data, threads)
            return destination[:count]

        return run


class _Decode(Operation):  # type: ignore[misc]
    """Decodes a batch: uint8 [batch, size of the largest picture], each in its place's beginning."""

    def __init__(self, job: native.PictureJob, threads: int) -> None:
        super().__init__()
        table = job.source.table
        self._job, self._threads = job, threads
        self._stride = int((table[:, 2] * table[:, 3]).max()) * job.source.channels

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
        dtype = np.dtype(np.uint8)
        state = replace(previous_state, jit_mode=True, shape=(self._stride,), dtype=dtype)
        return state, AllocationQuery((self._stride,), dtype)

    def generate_code(self) -> Callable[..., Any]:
        integer = ctypes.c_int64
        decode = ctypes.CFUNCTYPE(None, *[integer] * 6)(self._job.decode_address)
        job, threads, stride = self._job.address, self._threads, self._stride

        def run(batch_indices, destination, metadata, storage_state):  # type: ignore[no-untyped-def]
            count = len(batch_indices)
            decode(job, batch_indices.ctypes.data, count, destination.ctypes.data, stride, threads)
            return destination[:count]

        return run


class _Order(TraversalOrder):  # type: ignore[misc]
    """The order that the next reading asks for."""

    def __init__(self, examples: int) -> None:
        self.order = np.arange(examples, dtype=np.int64)

    def __call__(self, loader: Any) -> _Order:
        return self

    def sample_order(self, epoch: int) -> Any:
        return self.order


class Pipeline:
    """FFCV over one .beton file, for one reading at a time.

    Args:
        path: the file.
        image_field, other_fields: as `Beton` names them.
        job: what becomes of the pictures.
        batch_size: of all batches of a reading but the last.
        threads: that work on a batch, beside the thread that trains.
        decode_only: give the decoded pictures, uint8 [batch, largest size], in the place of float32 batches.
    """

    def __init__(
        self,
        path: Path,
        image_field: str,
        other_fields: tuple[str, ...],
        job: native.PictureJob,
        batch_size: int,
        threads: int,
        decode_only: bool = False,
    ) -> None:
        self._job, self._path = job, path
        self._order = _Order(len(job.source))
        operation = (_Decode if decode_only else _Fill)(job, threads)
        specification = PipelineSpec(image_field, decoder=operation, transforms=[])
        self._loader = Loader(
            str(path),
            batch_size=batch_size,
            num_workers=1,
            os_cache=True,
            order=self._order,
            seed=0,
            pipelines={image_field: specification, **dict.fromkeys(other_fields)},
            drop_last=False,
            batches_ahead=2,
        )

    def read(self, order: Tensor, seed: int, epoch: int) -> Generator[Tensor, None, None]:
        """Batches of the pictures `order`, int64 [n], in turn; each is overwritten after the next is asked for."""
        self._job.enter(seed, epoch)
        self._order.order = order.contiguous().numpy()
        self._loader.next_epoch = epoch
        running = iter(self._loader)
        try:
            while True:
                try:
                    made = running.output_queue.get(timeout=1.0)
                except queue.Empty:
                    if running.is_alive():
                        continue
                    raise DataError(f"{self._path}: FFCV's pipeline stopped; its error stands above") from None
                if made is None:
                    return
                self._job.check()
                _, (batch,) = made
                yield torch.from_numpy(batch)
        finally:
            _end(running)


def _end(running: Any) -> None:
    """Stop a reading, and wait until nothing of it works any more."""
    running.close()
    while running.is_alive():
        try:
            running.output_queue.get(timeout=0.05)
        except queue.Empty:
            continue
    running.join()
