"""One run at a time: the lock of a store."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from popnet.errors import StoreError


class Lock:
    """A file that one process holds at a time; it says which. It goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait: bool = False, tell: Callable[[str], None] = lambda text: None) -> None:
        """Take it.

        Args:
            wait: where another process has it, until that ends.
            tell: is told before waiting.

        Raises:
            StoreError: another process has it, or the file cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            self._flock(descriptor, wait, tell)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
            raise
        self._descriptor = descriptor

    def _flock(self, descriptor: int, wait: bool, tell: Callable[[str], None]) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            used = f"{self.path.parent}: in use by another run{f' (process {holder})' if holder else ''}"
            if not wait:
                raise StoreError(f"{used}: wait for it (--wait), or choose another --store") from None
            tell(f"{used}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def taken(self) -> bool:
        """Whether some process has it. Raises StoreError where that cannot be seen."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
