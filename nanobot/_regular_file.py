"""Open a file only if it is one: a FIFO would make us wait, and opening a device can have effects."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from typing import Final, TypeAlias

__all__ = ["NotAFile", "file_status", "is_new_file", "open_regular", "read_regular", "read_up_to"]

FilePath: TypeAlias = str | os.PathLike[str]

# The flags cover what can happen between looking and opening: not to wait, not to take over a terminal.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class NotAFile(OSError):
    """What is there is a folder, a FIFO, a socket or a device."""

    def __init__(self, path: FilePath, mode: int) -> None:
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
        super().__init__(errno.EINVAL, f"not a regular file but {kind}", os.fspath(path))


def file_status(path: FilePath) -> os.stat_result:
    """Look at a file, following links.

    Raises:
      NotAFile: It is not a regular file.
      OSError: It cannot be looked at.
    """
    status = os.stat(path)  # noqa: PTH116 - making a Path takes longer than the look, and a turn looks at each file
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(path, status.st_mode)
    return status


def is_new_file(path: FilePath) -> bool:
    """Whether writing to a path would make a file, and not change the one that is there. Links are followed.

    Raises:
      NotAFile: What is there is not a regular file, and shall not be written to nor replaced.
      OSError: It cannot be looked at.
    """
    try:
        file_status(path)
    except FileNotFoundError:
        return True
    return False


def open_regular(path: FilePath, *, follow_link: bool = True) -> FileIO:
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
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise NotAFile(path, mode)
    return file


def read_regular(path: FilePath, limit: int | None = None) -> bytes:
    """Read a file, or its first `limit` bytes; never waits.

    Raises:
      NotAFile: It is not a regular file.
      OSError: It cannot be opened or read.
    """
    with open_regular(path) as file:
        if limit is None:
            return file.readall() or b""
        return read_up_to(file, limit)


def read_up_to(file: FileIO, limit: int) -> bytes:
    """Read the next `limit` bytes, or what there is; one unbuffered read may bring less."""
    pieces: list[bytes] = []
    while limit > 0 and (piece := file.read(limit)):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)
