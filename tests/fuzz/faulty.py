"""A loader with every fault that the harness is to notice, at the inputs 1 to 4."""

from __future__ import annotations

import os
import signal

from .loaders import Loader


class Faulty(Loader):
    samples = (b"sample",)

    def load(self, content: bytes, number: int) -> None:
        if number == 1:
            raise KeyError("no error of popnet's")
        if number == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 3:
            bytearray(1 << 30)
        while number == 4:
            pass
