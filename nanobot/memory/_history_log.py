"""history.jsonl: summaries of the past, one line each, numbered for ever."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from nanobot._regular_file import is_new_file, read_regular
from nanobot.errors import InvalidArgument, StoreError
from nanobot.messages import without_surrogates

from ._file_lock import file_lock
from ._notes import make_folder, sync_folder

__all__ = ["CLEARED", "RECENT_BYTES", "SUMMARY", "HistoryEntry", "HistoryLog", "entries_in"]

_ENTRY_CHARS: Final = 64_000
"""Longest entry. What is longer is no summary; the entry then says what it lacks."""

_NO_ENTRY: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What comes of a line that cannot be read."""

_TAIL_BYTES: Final = 64 * 1024  # read at once, from the end, in search of the last cursor

RECENT_BYTES: Final = 64 * 1024
"""The end of the file that is looked at for a prompt: some hundred entries, of which a session is shown those that fit."""

SUMMARY: Final = "summary"
"""The kind of the notes that a compaction leaves."""

_NOTE: Final = "note"
"""The kind of what somebody else has noted. What has no kind was written by an older version, by whichever of the two."""

CLEARED: Final = "cleared"
"""The kind of the mark that what stands before it, of its session and without a kind, is about a past that is over."""

_CLEARED_TEXT: Final = (
    "This session was cleared, deleted or replaced: it is not shown what stands above of it."
)


class HistoryEntry(Struct, frozen=True):
    """One entry as it stands in the file.

    Attributes:
      cursor: Its number.
      timestamp: When it was made, in the user's zone.
      content: What happened.
      session_key: The session that it is about; None for none, or all.
      kind: `SUMMARY`, `CLEARED`, or anything else: files of other programs are read too. None if it is of an older version,
        and may be the notes of a compaction or not.
    """

    cursor: int
    timestamp: str
    content: str
    session_key: str | None = None
    kind: Any = None


def entries_in(lines: bytes) -> tuple[HistoryEntry, ...]:
    """The entries in some lines of the file, in order; a line that cannot be read, or is not whole, is passed over."""
    return tuple([entry for line in lines.split(b"\n") if (entry := _kept(line)) is not None])


def _kept(line: bytes) -> HistoryEntry | None:
    try:
        return _KEPT.decode(line.removeprefix(BOM_UTF8))
    except _NO_ENTRY:
        return None


_KEPT: Final[msgspec.json.Decoder[HistoryEntry]] = msgspec.json.Decoder(HistoryEntry)


class _Entry(Struct):
    cursor: int
    timestamp: str
    content: str
    session_key: str | UnsetType | None = UNSET


class _Written(_Entry, kw_only=True):
    kind: str


_DECODER: Final[msgspec.json.Decoder[_Entry]] = msgspec.json.Decoder(_Entry)


class HistoryLog:
    """The file `memory/history.jsonl` of a workspace: `{"cursor", "timestamp", "content", "session_key"?, "kind"}` in each line.
    Older versions wrote no `kind`.

    Cursors start at 1 and only grow, among any number of threads and processes, and also after the file was shortened:
    the file `.cursor` beside it has the last one. Lines that cannot be read are passed over, and never spoil the next.
    """

    def __init__(
        self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now().astimezone()
    ) -> None:
        """`folder` is the workspace's `memory`, which need not exist; `now` gives the time of the user's zone."""
        self.path = folder / "history.jsonl"
        self._cursor_path = folder / ".cursor"
        self._lock_path = folder / ".history.lock"
        self._now = now

    def append(self, text: str, session_key: str | None = None, *, is_summary: bool = False) -> int:
        """Add an entry and return its cursor, when it is on the disk.

        Args:
          text: What happened. Past 64,000 characters it is cut, and says so.
          session_key: The session that it is about.
          is_summary: These are the notes of a compaction.

        Raises:
          InvalidArgument: It is no text.
          StoreError: The file cannot be written; it may have part of a line, which the next entry leaves behind.
        """
        if not isinstance(text, str) or not isinstance(session_key, str | None):
            raise InvalidArgument("a history entry is text, and its session_key a string or None")
        try:
            make_folder(self.path.parent)
            return self._append(text, session_key, SUMMARY if is_summary else _NOTE)
        except OSError as error:
            raise self._not_written(error) from error

    def begin_anew(self, session_key: str) -> None:
        """Note that a session was cleared, if it could otherwise be shown an entry of an older version that is about before.

        Raises:
          StoreError: The file cannot be written.
        """
        session_key = without_surrogates(session_key)
        if (
            not self.path.is_file()
        ):  # opening a pipe would wait for ever, and nobody is shown anything else
            return
        try:
            with self.path.open("rb", buffering=0) as file:
                start = max(0, file.seek(0, os.SEEK_END) - RECENT_BYTES)
                file.seek(start)
                recent = entries_in(_read_exactly(file, RECENT_BYTES))
            own = [entry.kind for entry in recent if entry.session_key == session_key]
            since = own[::-1].index(CLEARED) if CLEARED in own else len(own)
            if None in own[len(own) - since :]:
                self._append(_CLEARED_TEXT, session_key, CLEARED)
        except OSError as error:
            raise self._not_written(error) from error

    def read(self, session_key: str | None = None) -> list[dict[str, Any]]:
        """Return the entries, oldest first: those of one session, or all of them, also those of none.

        Raises:
          InvalidArgument: The key is no string.
          StoreError: The file cannot be read.
        """
        if not isinstance(session_key, str | None):
            raise InvalidArgument(f"session_key must be a string or None, not {session_key!r:.80}")
        wanted = session_key and without_surrogates(session_key)  # as it was written
        try:
            content = read_regular(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error
        entries = filter(None, map(_entry, content.split(b"\n")))
        if wanted is not None:
            entries = filter(lambda entry: entry.session_key == wanted, entries)
        return [msgspec.to_builtins(entry) for entry in entries]

    def _append(self, text: str, session_key: str | None, kind: str) -> int:
        with file_lock(self._lock_path):
            return self._append_locked(_cut(without_surrogates(text)), session_key, kind)

    def _append_locked(self, text: str, session_key: str | None, kind: str) -> int:
        is_new = is_new_file(self.path)
        with self.path.open("a+b", buffering=0) as file:
            cursor = 1 + max(_last_cursor(file), self._noted_cursor())
            entry = _Written(cursor, f"{self._now():%Y-%m-%d %H:%M}", text, kind=kind)
            if session_key is not None:
                entry.session_key = without_surrogates(session_key)
            line = msgspec.json.encode(entry) + b"\n"
            if not _ends_a_line(file):
                line = (
                    b"\n" + line
                )  # somebody died while writing; their line shall not swallow this one
            _write_all(file, line)
            os.fsync(file.fileno())
        # After the line: if it is lost, so is the number, and both were never told to anybody.
        self._cursor_path.write_text(f"{cursor}\n")
        if is_new:
            sync_folder(self.path.parent)
        return cursor

    def _not_written(self, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        if error.filename not in (None, str(self.path)):  # one of those beside it
            reason = f"{reason} ({error.filename})"
        return StoreError(f"{self.path} cannot be written: {reason}")

    def _noted_cursor(self) -> int:
        try:
            return max(0, int(read_regular(self._cursor_path)))
        except (FileNotFoundError, ValueError):  # missing or torn: the file itself still tells
            return 0


def _entry(line: bytes) -> _Entry | None:
    try:
        return _DECODER.decode(line.removeprefix(BOM_UTF8))
    except _NO_ENTRY:
        return None


def _last_cursor(file: BinaryIO) -> int:
    """The cursor of the last line that can be read; 0 if there is none."""
    for line in _lines_from_the_end(file):
        if (entry := _entry(line)) is not None:
            return entry.cursor
    return 0


def _lines_from_the_end(file: BinaryIO) -> Iterator[bytes]:
    end = file.seek(0, os.SEEK_END)
    rest = b""
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        first, *lines = (_read_exactly(file, end - start) + rest).split(b"\n")
        yield from reversed(lines)
        rest, end = first, start
    yield rest


def _ends_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    pieces: list[bytes] = []
    while count > 0 and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _write_all(file: BinaryIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]


def _cut(text: str) -> str:
    if len(text) <= _ENTRY_CHARS:
        return text
    return f"{text[:_ENTRY_CHARS]}\n[cut here: {len(text) - _ENTRY_CHARS:,} more characters]"
