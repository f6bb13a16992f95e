"""A member's training step and evaluation as CUDA graphs, replayed for every step of every member of a slot.

A graph holds addresses, not values. What changes from step to step (the batch, the seeds, the rate, the epoch) stands
in device memory (`popnet.training.device_epoch`). So a replay is all that the host does for a step, and an epoch runs
without synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from popnet.data.resident import ResidentImages
from popnet.errors import CaptureFailed
from popnet.protocol import View
from popnet.training.capture import first_line
from popnet.training.memory import is_full
from popnet.training.numerics import autocast, numerics
from popnet.training.trainer import Parts
from popnet.training.waiting import wait_for

_WARM_UPS = 3
"""Eager runs before a capture: libraries load, and every kernel is launched once."""


@dataclass(frozen=True)
class EvaluationGraph:
    """A forward pass of one batch size: replaying it takes `images` to `logits`, float32 [batch, classes]."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    logits: Tensor


class Graphs:
    """The captured graphs of one slot, which share one memory pool: they never run at the same time.

    Args:
        parts: whose memory the graphs address; members are copied into it.
        precision: of the recipe.
        stream: the slot's own; captures and replays happen there.
    """

    def __init__(self, parts: Parts, precision: str, stream: torch.cuda.Stream) -> None:
        self._parts, self._precision, self._stream = parts, precision, stream
        self._pool = torch.cuda.graph_pool_handle()
        self._training: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        self._evaluation: dict[tuple[int, bool], EvaluationGraph] = {}

    def capture_training(
        self, count: int, hardware: bool, step: Callable[[], None], rewind: Callable[[], None]
    ) -> None:
        """Capture `step`, a training step of `count` examples; it moves weights, so the caller restores them."""
        with numerics(self._parts.device, self._precision, hardware):
            self._parts.model.train()
            for _ in range(_WARM_UPS):
                rewind()
                step()
            rewind()
            self._training[count, hardware] = self._capture(step)

    def capture_evaluation(self, images: Tensor, hardware: bool) -> None:
        """Capture the forward pass of a batch that stands in `images`."""
        made: list[Tensor] = []

        def forward() -> None:
            with torch.no_grad(), autocast(self._parts.device, self._precision):
                made[:] = [self._parts.model(images).float()]

        with numerics(self._parts.device, self._precision, hardware):
            self._parts.model.eval()
            images.zero_()
            for _ in range(_WARM_UPS):
                forward()
            graph = self._capture(forward)
        self._evaluation[len(images), hardware] = EvaluationGraph(graph, images, made[0])

    @property
    def sizes(self) -> tuple[tuple[int, bool], ...]:
        """The captured training steps: examples, and whether on the device's own kernels."""
        return tuple(self._training)

    def train(self, count: int, hardware: bool) -> None:
        """Enqueue one training step."""
        self._training[count, hardware].replay()

    def evaluate(self, test: ResidentImages, views: Sequence[View], size: int, hardware: bool) -> Tensor:
        """Enqueue the evaluation of every view: float32 [views, examples, classes] on the device."""
        everything = torch.arange(len(test), device=self._parts.device)
        rows = []
        for view in views:
            batches = []
            for indices in everything.split(size):
                captured = self._evaluation[len(indices), hardware]
                test.view_batch(indices, captured.images, view)
                captured.graph.replay()
                batches.append(captured.logits.clone())
            rows.append(torch.cat(batches))
        return torch.stack(rows)

    def _capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        wait_for(self._stream)
        graph = torch.cuda.CUDAGraph()
        first: list[Exception] = []
        try:
            # other slots' threads go on with their replays, so only this thread is watched for what cannot be captured
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    function()
                except Exception as error:
                    first.append(error)
                    raise
        except RuntimeError as error:
            cause = (*first, error)[0]
            if error is cause and is_full(error):  # the capture's end did not fail beside it
                raise
            raise CaptureFailed(f"a CUDA graph could not be captured: {first_line(cause)}") from cause
        return graph
