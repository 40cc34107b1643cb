"""One at a time, among threads and processes of this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["file_lock"]

_RETRY_S: Final = 0.01  # Windows has no wait of its own that could not time out


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock for the length of a block; waits for whoever has it. It ends with the process that holds it.

    Args:
      path: A file that is there for this only, and stays. One that is replaced would be two locks.

    Raises:
      OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                return
            except OSError:
                time.sleep(_RETRY_S)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # flock, not lockf: that one ends when the process closes any other descriptor of the file
        fcntl.flock(descriptor, fcntl.LOCK_EX)
