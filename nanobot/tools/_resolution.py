"""Resolve a path, check where it leads, then open it: for platforms without folder descriptors.

Between the check and the open, another program can swap a folder for a link. What was opened is judged again where the
platform tells (a device, a forbidden file), but not where it lies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from nanobot.errors import ToolError

from ._fence import Fence, shown
from ._folder import Entry, EntryKind, Listing, entries_of, first_entries
from ._replacement import Expected, MadeFolders, Replacement

__all__ = ["Resolution"]

# A FIFO that was swapped in opens at once instead of waiting for a writer.
_READ: Final[int] = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


class Resolution:
    """Opens files and folders behind a fence, by their resolved paths."""

    __slots__ = ("_fence",)

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    def open_file(self, path: str) -> tuple[int, str]:
        """Open a regular file; return its descriptor and its absolute path without links."""
        resolved = self._resolve(path)
        self._refuse_special(resolved.stat(), path)
        descriptor = os.open(resolved, _READ)
        try:
            found = os.fstat(descriptor)
            self._refuse_special(found, path)
            self._fence.refuse_forbidden(str(resolved), found, path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, str(resolved)

    def open_folder(self, path: str) -> PathFolder:
        """Open a folder for looking through it."""
        resolved = self._resolve(path)
        found = resolved.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise ToolError(f"{shown(path)} is a file, not a folder.")
        self._fence.refuse_forbidden(str(resolved), found, path)
        return PathFolder(self._fence, resolved)

    def stage(
        self, path: str, content: bytes, expected: Expected, *, undoable: bool
    ) -> Replacement:
        """Write a new content for a file beside it, in the folder it is in, which is made if it is missing."""
        resolved = self._resolve(path)
        if resolved.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        made = MadeFolders()
        try:
            _make_folders(resolved.parent, made)
        except BaseException:
            made.remove()
            raise
        name = str(resolved)
        return Replacement(
            self._fence, path, name, None, name, made, content, expected, undoable=undoable
        )

    def _resolve(self, path: str) -> Path:
        resolved = Path(os.path.realpath(Path(self._fence.root, path)))
        if not self._fence.holds(str(resolved)):
            raise self._fence.outside(path)
        self._fence.refuse_forbidden(str(resolved), None, path)
        return resolved

    def _refuse_special(self, found: os.stat_result, path: str) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._fence.refuse_special(found, path)


def _make_folders(folder: Path, made: MadeFolders) -> None:
    missing: list[Path] = []
    while not folder.is_dir():
        if os.path.lexists(folder):  # where a folder should be there is something else
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody else was quicker
            folder.mkdir()
            made.add(None, str(folder))


class PathFolder:
    """A folder known by its path."""

    __slots__ = ("_fence", "_path")

    def __init__(self, fence: Fence, path: Path) -> None:
        self._fence = fence
        self._path = path

    def first(self, count: int, *, look_at: int) -> Listing:
        with os.scandir(self._path) as scan:
            return first_entries(scan, count, look_at)

    def entries(self) -> AbstractContextManager[Iterator[Entry]]:
        return entries_of(self._path)

    def open_file(self, name: str) -> BinaryIO:
        file = self._path / name
        self._refuse_special(file.lstat(), name)
        descriptor = os.open(file, _READ)
        try:
            found = os.fstat(descriptor)
            self._refuse_special(found, name)
            self._fence.refuse_forbidden(str(file), found, str(file))
        except BaseException:
            os.close(descriptor)
            raise
        return open(file, "rb", opener=lambda _path, _flags: descriptor)

    def _refuse_special(self, found: os.stat_result, name: str) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)

    def open_folder(self, name: str) -> PathFolder:
        below = self._path / name
        found = below.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(below))
        self._fence.refuse_forbidden(str(below), found, str(below))
        return PathFolder(self._fence, below)

    def age_of(self, name: str, *, now: float) -> float:
        return now - (self._path / name).lstat().st_mtime

    def remove(self, name: str, kind: EntryKind) -> None:
        entry = self._path / name
        if kind == "folder":
            entry.rmdir()
        else:
            entry.unlink()

    def close(self) -> None:
        return

    def __enter__(self) -> PathFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
