"""Open a file only if it is one: a FIFO would make us wait, and opening a device can have effects."""

from __future__ import annotations

import os
import stat
from io import FileIO
from typing import Final

__all__ = ["NotAFile", "file_status", "open_regular"]

# The flags cover what can happen between looking and opening: not to wait, not to take over a terminal.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class NotAFile(OSError):
    """What is there is a directory, a FIFO, a socket or a device."""

    def __init__(self) -> None:
        super().__init__(0, "not a regular file")


def file_status(path: str) -> os.stat_result:
    """Look at a file, following links.

    Raises:
      NotAFile: It is not a regular file.
      OSError: It cannot be looked at.
    """
    status = os.stat(path)  # noqa: PTH116 - making a Path takes longer than the look, and a turn looks at each file
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile
    return status


def open_regular(path: str, *, follow_link: bool = True) -> FileIO:
    """Open a file for unbuffered reading; never waits.

    Args:
      path: Its path.
      follow_link: Whether the path itself may be a link; links on the way to it are always followed.

    Raises:
      NotAFile: It is not a regular file.
      OSError: It cannot be opened.
    """
    file_status(path)
    no_link = 0 if follow_link else getattr(os, "O_NOFOLLOW", 0)
    file = FileIO(os.open(path, _FLAGS | no_link))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotAFile
    return file
