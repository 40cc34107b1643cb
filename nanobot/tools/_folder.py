"""An open folder, as file tools see it."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

__all__ = ["Entry", "EntryKind", "Folder", "Listing", "entries_of", "first_entries"]

EntryKind: TypeAlias = Literal["folder", "file", "link", "other"]


class Entry(Struct, frozen=True, gc=False):
    """One name in a folder. Links are not followed; `other` is a device, a FIFO or a socket.

    A Struct, for a walk makes a million of them, each in a third of the time that a tuple with names takes.
    """

    name: str
    kind: EntryKind


class Listing(NamedTuple):
    """The first entries of a folder by name.

    `looked_at` counts all that were seen; `complete` is False if there were more than one may look at.
    """

    entries: list[Entry]
    looked_at: int
    complete: bool


class Folder(Protocol):
    """Holds a folder open until `close()`. All methods block and raise `ToolError` or `OSError`."""

    def first(self, count: int, *, look_at: int) -> Listing:
        """The first `count` entries in the order of their names, out of at most `look_at` that are looked at."""
        ...

    def entries(self) -> AbstractContextManager[Iterator[Entry]]:
        """All entries one by one, in no order, for as long as the block lasts; nothing of them is held."""
        ...

    def open_file(self, name: str) -> BinaryIO:
        """Open a regular file in this folder for reading, by its name; never through a link."""
        ...

    def open_folder(self, name: str) -> Folder:
        """Open a folder in this one, by its name; never through a link."""
        ...

    def age_of(self, name: str, *, now: float) -> float:
        """Seconds since the entry was last modified, at `now` in seconds since the epoch."""
        ...

    def remove(self, name: str, kind: EntryKind) -> None:
        """Remove an entry; of kind `folder` only if it is empty. A link is removed itself, not what it leads to."""
        ...

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        ...

    def __enter__(self) -> Folder: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@contextlib.contextmanager
def entries_of(folder: int | Path) -> Iterator[Iterator[Entry]]:
    """Scan a folder, given by its descriptor or its path."""
    with os.scandir(folder) as scan:
        yield (Entry(entry.name, _kind(entry)) for entry in scan)


def first_entries(scan: Iterator[os.DirEntry[str]], count: int, look_at: int) -> Listing:
    """Keep the `count` smallest names of a scan, holding no more than that in memory."""
    looked_at = 0

    def counted() -> Iterator[os.DirEntry[str]]:
        nonlocal looked_at
        for entry in itertools.islice(scan, look_at):
            looked_at += 1
            yield entry

    smallest = heapq.nsmallest(count, counted(), key=_name)
    complete = next(scan, None) is None
    return Listing([Entry(entry.name, _kind(entry)) for entry in smallest], looked_at, complete)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    try:
        if entry.is_file(follow_symlinks=False):  # first, for most are files
            return "file"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "link" if entry.is_symlink() else "other"
    except OSError:  # gone since, or not ours to see; its name was there
        return "other"
