"""What the slots of one device have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import torch

from popnet.errors import DeviceTooSmall

MOST_SLOTS = 32
"""On one device: it has as many hardware queues, and PyTorch as many streams, which it gives out in turn, so that the
next one would be the first again, and a capture in it would record another slot's replays."""


class Rack:
    """The slots' streams, and what one of them found out that holds for all.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._streams: list[torch.cuda.Stream] = []
        self._taken: set[int] = set()
        self._bits: dict[str, str] = {}
        self._obstacles: dict[Hashable, str | None] = {}
        self._trials = threading.Lock()

    def take_stream(self) -> torch.cuda.Stream:
        """A stream that no other slot uses, until it is given back. Raises DeviceTooSmall when all are in use."""
        with self._lock:
            if self._streams:
                return self._streams.pop()
            for _ in range(MOST_SLOTS):  # whoever else asks PyTorch for streams moves the turn on
                with torch.cuda.device(self.device):
                    stream = torch.cuda.Stream(self.device)
                if stream.cuda_stream not in self._taken:
                    self._taken.add(stream.cuda_stream)
                    return stream
            raise DeviceTooSmall(f"a device trains at most {MOST_SLOTS} members at once")

    def give_back(self, stream: torch.cuda.Stream) -> None:
        """Take back a stream on which all work is done."""
        with self._lock:
            self._streams.append(stream)

    def bits(self, program: str) -> str | None:
        """What a program came to in the first slot that was set up for it, which is the measure of the others."""
        return self._bits.get(program)

    def agrees(self, program: str, bits: str) -> bool:
        """Whether a program came to the same bits as in the first slot, which is this one where there was none."""
        return self._bits.setdefault(program, bits) == bits

    def obstacle(self, program: Hashable, trial: Callable[[], str | None]) -> str | None:
        """What `trial` finds against capturing a program; it is tried once for all slots."""
        with self._trials:
            if program not in self._obstacles:
                self._obstacles[program] = trial()
            return self._obstacles[program]
