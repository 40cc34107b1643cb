"""Reading: connections of their own, each read one snapshot, and nobody waits for the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ._record import Position, SessionRecord
from ._rows import (
    DamagedRow,
    key_from_row,
    message_id,
    moment,
    record_from_row,
)
from ._snapshot import SessionInfo
from ._sqlite_errors import store_error
from ._sqlite_file import Inode, inode_of, open_for_reading

__all__ = [
    "Readers",
    "StoredSession",
    "count_since",
    "list_rows",
    "list_slips",
    "read_session",
]

# Connections that are kept for the next read; each costs three descriptors and up to 2 MB of cache. More at once are made and
# dropped as needed, in 0.2 ms.
_KEPT: Final = 8

_SESSION: Final = """
    SELECT s.id, s.epoch, s.sequence, s.version, s.created_at, s.updated_at, f.metadata, f.through, f.summary
    FROM session s JOIN facts f ON f.session = s.id WHERE s.key = ?
"""
_MESSAGES: Final = "SELECT body FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
_LIST: Final = """
    SELECT key, created_at, updated_at, title, preview, sequence FROM session
    ORDER BY updated_at DESC, version DESC LIMIT ?
"""
_SLIPS: Final = """
    SELECT s.key, p.body FROM slip p JOIN session s ON s.id = p.session
    WHERE p.name = :name AND (:key IS NULL OR s.key = :key) ORDER BY s.id
"""
_COUNT: Final = "SELECT count(*) FROM session WHERE updated_at >= ? AND version > ?"


class StoredSession(Struct, frozen=True):
    """A session as its rows are, to be decoded by whoever asked. `unread`: its messages were too many to be read."""

    position: Position
    created_at: int
    updated_at: int
    metadata: bytes
    through: int | None
    summary: bytes | None
    bodies: tuple[bytes, ...]
    unread: bool = False

    def record(self, key: str) -> SessionRecord:
        """Decode it.

        Raises:
          DamagedRow: What is stored cannot be read.
        """
        return record_from_row(key, self)


class Readers:
    """Connections for reading, lent to one reader at a time. May be used from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._inode: Inode | None = None  # of the file that the idle ones have open
        self._lent = 0
        self._paused = False
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection | None]:
        """A connection inside a read transaction; None if there is no database.

        Raises:
          StoreError: The database cannot be read, or is damaged; also for what goes wrong inside the block.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            self._lent += 1
        connection = None
        inode = None
        good = False
        try:
            inode = inode_of(self._path)
            connection = None if inode is None else self._take(inode)
            if connection is not None:
                connection.execute("BEGIN")
            yield connection
            if connection is not None:
                connection.execute("COMMIT")
            good = True
        except (sqlite3.Error, OSError, DamagedRow) as error:
            raise store_error(self._path, error) from error
        finally:
            self._give_back(connection, inode, good=good)

    def pause(self, timeout_s: float) -> bool:
        """Wait for the reads that go on, close all connections, and let nobody read until `resume`; False if it took too long."""
        with self._changed:
            self._paused = True
            if not self._changed.wait_for(lambda: not self._lent, timeout_s):
                self._paused = False
                return False
            self._close_idle()
            return True

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def close(self) -> None:
        """Keep no connection open between reads from now on."""
        with self._changed:
            self._closed = True
            self._close_idle()

    def __del__(self) -> None:
        # A store that was dropped is closed; nobody can be reading any more.
        self._close_idle()

    def _take(self, inode: Inode) -> sqlite3.Connection:
        with self._changed:
            if inode != self._inode:  # the file was replaced by another
                self._close_idle()
                self._inode = inode
            if self._idle:
                return self._idle.pop()
        return open_for_reading(self._path)

    def _give_back(
        self, connection: sqlite3.Connection | None, inode: Inode | None, *, good: bool
    ) -> None:
        with self._changed:
            self._lent -= 1
            self._changed.notify_all()
            if connection is None:
                return
            keep = good and not self._closed and inode == self._inode and len(self._idle) < _KEPT
            if keep:
                self._idle.append(connection)
            else:
                connection.close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def read_session(
    connection: sqlite3.Connection,
    key: bytes,
    last: int | None,
    covered: int | None,
    *,
    at_most: int | None = None,
) -> StoredSession | None:
    """Read a session's rows inside a transaction; None if there is no such session.

    Args:
      connection: The connection.
      key: The session.
      last: As for `SessionStore.read`.
      covered: As for `SessionStore.read`.
      at_most: With more messages to read than these, none is read, and `unread` says so.
    """
    row = connection.execute(_SESSION, (key,)).fetchone()
    if row is None:
        return None
    session, epoch, sequence, version, created_at, updated_at, metadata, through, summary = row
    start = 0
    if covered is not None and through is not None:
        start = max(start, through - covered)
    if last is not None:
        start = max(start, sequence - last)
    bodies: tuple[bytes, ...] = ()
    unread = at_most is not None and sequence - start > at_most
    if start < sequence and not unread:
        ids = message_id(session, start + 1), message_id(session, sequence)
        rows = connection.execute(_MESSAGES, ids)
        bodies = tuple([body for (body,) in rows])
    return StoredSession(
        Position(epoch, sequence, version),
        created_at,
        updated_at,
        metadata,
        through,
        summary,
        bodies,
        unread,
    )


def list_slips(
    connection: sqlite3.Connection, name: str, key: bytes | None
) -> tuple[tuple[str, bytes], ...]:
    """The slips of one name, each after the key of its session."""
    rows = connection.execute(_SLIPS, {"name": name, "key": key})
    return tuple((key_from_row(row), body) for row, body in rows)


def list_rows(connection: sqlite3.Connection, limit: int | None) -> tuple[SessionInfo, ...]:
    """One row for each session, the most recently written first. Reads no message."""
    rows: list[tuple[Any, ...]] = connection.execute(
        _LIST, (-1 if limit is None else limit,)
    ).fetchall()
    return tuple(
        [
            SessionInfo(
                key=key_from_row(key),
                created_at=moment(created_at).isoformat(),
                updated_at=moment(updated_at).isoformat(),
                title=title,
                preview=preview,
                message_count=sequence,
            )
            for key, created_at, updated_at, title, preview, sequence in rows
        ]
    )


def count_since(connection: sqlite3.Connection, written_at: int, version: int) -> int:
    """How many sessions were written after a version; none of these before the time, in microseconds."""
    (count,) = connection.execute(_COUNT, (written_at, version)).fetchone()
    return int(count)
