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
        self._made = 0
        self._streams: list[torch.cuda.Stream] = []
        self._bits: dict[Hashable, str] = {}
        self._obstacles: dict[Hashable, str | None] = {}
        self._trials = threading.Lock()

    def take_stream(self) -> torch.cuda.Stream:
        """A stream that no other slot uses, until it is given back. Raises DeviceTooSmall when all are in use."""
        with self._lock:
            if self._streams:
                return self._streams.pop()
            if self._made == MOST_SLOTS:
                raise DeviceTooSmall(f"a device trains at most {MOST_SLOTS} members at once")
            self._made += 1
            with torch.cuda.device(self.device):
                return torch.cuda.Stream(self.device)

    def give_back(self, stream: torch.cuda.Stream) -> None:
        """Take back a stream on which all work is done."""
        with self._lock:
            self._streams.append(stream)

    def agrees(self, program: Hashable, bits: str) -> bool:
        """Whether a program came to the same bits in every slot so far; the first slot's are the measure."""
        return self._bits.setdefault(program, bits) == bits

    def obstacle(self, program: Hashable, trial: Callable[[], str | None]) -> str | None:
        """What `trial` finds against capturing a program; it is tried once for all slots."""
        with self._trials:
            if program not in self._obstacles:
                self._obstacles[program] = trial()
            return self._obstacles[program]
