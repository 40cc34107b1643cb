"""The durable store: one SQLite file, for one process or several."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from msgspec import Struct

from nanobot.errors import StoreError, UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased, SessionFenced, SessionGone
from ._record import Compaction, Position, SessionRecord, refuse_negative
from ._rows import DamagedRow, microseconds, row_from_key
from ._search import SearchHit
from ._snapshot import SessionInfo
from ._sqlite_errors import closed_error, store_error
from ._sqlite_file import LOCK_TIMEOUT_S, has_fts5, open_for_writing
from ._sqlite_fork import watch_forks
from ._sqlite_import import Importer
from ._sqlite_leases import LEASE_TIMEOUT_S, LeaseDesk, LeaseRequest
from ._sqlite_reads import (
    Readers,
    StoredSession,
    count_since,
    list_rows,
    list_slips,
    read_session,
)
from ._sqlite_request import Request
from ._sqlite_search import Indexer, search
from ._sqlite_transaction import Transaction
from ._sqlite_writer import Writer
from ._sqlite_writes import (
    Addition,
    SessionRow,
    add,
    clear,
    find,
    position_of,
    read_slips,
    remove,
    replace,
    swap_slip,
    write_slips,
)
from ._store import Durability, SessionExists
from ._tenancies import Tenancies

__all__ = ["SqliteStore"]

T = TypeVar("T")

# A lease and so many messages come in one go, from the writer's thread. To read more there would hold up the writes of others;
# to read fewer elsewhere costs more, in changing threads, than it saves.
_READ_ALONG: Final = 64

_LEASED_SESSION: Final = """
    SELECT l.token, l.epoch, s.id, s.epoch, s.sequence, s.version, s.preview,
        EXISTS (SELECT 1 FROM slip WHERE session = s.id)
    FROM lease l LEFT JOIN session s ON s.key = l.key WHERE l.key = ?
"""


class _Granted(Struct, frozen=True):
    """A lease as the writer gives it."""

    token: int
    epoch: int
    position: Position
    stored: StoredSession | None = None
    slips: Mapping[str, bytes] = {}
    appended: int = 0


class SqliteStore:
    """Keeps sessions in a SQLite file, written by one thread, read by any; several processes may share the file.

    Implements `SessionStore` and `SessionSearch`. Nothing is opened, made or started before it is first used. The file has mode
    0600, and must be on a disk of this machine: on network file systems SQLite's log does not work.

    What a write that has returned survives:

    - `"commit"`: the death of the process, of the system, and a power cut. The log was synced to the disk. Writes that are
      asked for at the same time share one sync.
    - `"fast"`: the death of the process, whenever and however. The system has the write; it comes to the disk with the next
      checkpoint (about every 4 MB), `flush` or `close`. A power cut, or a crash of the system, may take the last writes: what is
      there afterwards is what was there at some earlier moment, with nothing missing before it and no write in part.

    With either, a process that is killed at any moment leaves whole writes and nothing else.

    A lease belongs to a process while it lives. One that has died is found out at once (its process id is gone, or belongs to a
    process that was started at another time); one that hangs, or that cannot be seen from this container, after 15 seconds.
    Its next write fails with `SessionFenced`, in the transaction that would have written.

    A forked child has the sessions, and none of its parent's leases.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "commit",
        old_files: Sequence[Path] = (),
        full_text: bool = True,
        lease_timeout_s: float = LEASE_TIMEOUT_S,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Touch nothing yet.

        Args:
          path: The file; made when it is first needed, with its folder.
          durability: What writes survive.
          old_files: Folders with session files of the older format, to be brought over once; they are not changed.
          full_text: Keep a full-text index, if SQLite has FTS5. Without one, a search reads all messages.
          lease_timeout_s: How long a process that cannot be seen to be dead may be silent before it loses its leases.
          lock_timeout_s: How long another program may keep the file locked before a write fails.
          now: Gives the timezone-aware time of each write.
        """
        self._path = path
        self._durability = durability
        self._old_files = tuple(old_files)
        self._full_text = full_text
        self._lease_timeout_s = lease_timeout_s
        self._lock_timeout_s = lock_timeout_s
        self._now = now
        self._assemble()
        watch_forks(self)

    def _assemble(self) -> None:
        self._unusable = False
        self._tenancies = Tenancies()
        self._desk = LeaseDesk(self._tenancies, timeout_s=self._lease_timeout_s)
        self._books = _Books(self._now)
        self._readers = Readers(self._path)
        self._writer = Writer(
            self._path,
            # Nothing that the thread has leads to the store: one that is dropped is closed.
            connect=partial(
                _connected,
                self._path,
                self._desk,
                self._books,
                full_text=self._full_text,
                lock_timeout_s=self._lock_timeout_s,
            ),
            durable=self._durability == "commit",
            lock_timeout_s=self._lock_timeout_s,
            chores=(self._desk, self._books.indexer),
            at_work=self._tenancies.sessions,
            put_back=self._desk.put_back,
            before_close=self._desk.leave,
        )
        self._importer = Importer(
            self._old_files, self._writer, self._desk, self._books.indexer.note
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def blocks(self) -> bool:
        """See `SessionStore.blocks`."""
        return True

    @property
    def place(self) -> Hashable:
        """See `PlacedStore.place`."""
        return "sqlite", self._path.resolve()

    # --- turns

    async def acquire_lease(
        self,
        key: str,
        *,
        last: int | None = None,
        covered: int | None = None,
        unless_at: Position | None = None,
        messages: Sequence[Message] = (),
    ) -> Leased:
        """See `SessionStore.acquire_lease`."""
        refuse_negative(last, covered)
        addition = Addition.of(messages, None, None)
        self._refuse_if_closed()
        row = row_from_key(key)
        waiter = self._tenancies.enter(key)
        try:
            await waiter.wait()
            if not self._importer.finished:
                await trio.to_thread.run_sync(self._importer.bring, key, abandon_on_cancel=True)

            def begin(given: _Granted) -> None:
                self._tenancies.begin(Lease(key, given.token, given.epoch), waiter)
                if given.appended:
                    self._books.indexer.note(given.appended)

            granted = await LeaseRequest(
                row,
                partial(self._grant, row, last, covered, unless_at, addition),
                after=begin,
                writes=not addition.empty,
            ).answer(self._writer.post)
        except (
            BaseException
        ):  # Cancelled, KeyboardInterrupt, or refused: out of the queue either way
            self._tenancies.leave(key, waiter)
            raise
        lease = Lease(key, granted.token, granted.epoch)
        try:
            return await self._leased(lease, granted, last, covered)
        except BaseException:
            self._release(lease)
            raise

    async def release_lease(self, lease: Lease) -> None:
        """See `SessionStore.release_lease`."""
        self._release(lease)

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes | None] | None = None,
        release: bool = False,
    ) -> Position:
        """See `SessionStore.append`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        addition = Addition.of(messages, metadata, compaction)
        self._refuse_if_closed()
        if not self._tenancies.holds(lease.key, lease.token):
            raise SessionFenced(lease.key)
        position = await self._request(
            partial(self._append, row_from_key(lease.key), lease, addition, slips, release),
            addition,
        ).answer(self._writer.post)
        if release:
            self._tenancies.end(lease)
        return position

    async def aclose(self) -> None:
        """See `SessionStore.aclose`."""
        with trio.CancelScope(shield=True):  # it takes as long as what is being written
            await trio.to_thread.run_sync(self.close)

    # --- everybody, from anywhere

    def read(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """See `SessionStore.read`."""
        refuse_negative(last, covered)
        self._look_for_old_file(key)
        with self._snapshot() as connection:
            if connection is None:
                return None
            stored = read_session(connection, row_from_key(key), last, covered)
        return self._record(key, stored)

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """See `SessionStore.list_sessions`."""
        refuse_negative(limit)
        self._look_for_old_files()
        with self._snapshot() as connection:
            return () if connection is None else list_rows(connection, limit)

    def search(self, text: str, limit: int = 20) -> tuple[SearchHit, ...]:
        """See `SessionSearch.search`. Words of scripts without spaces are found as they stand, character by character."""
        refuse_negative(limit)
        self._look_for_old_files()
        with self._snapshot() as connection:
            if connection is None:
                return ()
            return search(connection, text, limit, indexed=self._books.indexer.enabled)

    def list_slips(self, name: str, *, key: str | None = None) -> tuple[tuple[str, bytes], ...]:
        """See `SessionStore.list_slips`."""
        self._refuse_if_unusable()
        with self._snapshot() as connection:
            if connection is None:
                return ()
            return list_slips(connection, name, None if key is None else row_from_key(key))

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        """See `SessionStore.swap_slip`."""
        self._refuse_if_unusable()
        row = row_from_key(key)
        return self._request(
            lambda transaction: swap_slip(transaction, row, name, old, new)
        ).answer_sync(self._writer.post)

    def extend(
        self, key: str, messages: Sequence[Message], *, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """See `SessionStore.extend`."""
        addition = Addition.of(messages, metadata, None)
        row = row_from_key(key)
        self._look_for_old_file(key)

        def work(transaction: Transaction) -> bool:
            if self._desk.is_held(transaction, row):
                return False
            session = find(transaction, row)
            epoch = transaction.number() if session is None else session.epoch
            add(transaction, row, session, epoch, addition, self._books.now())
            return True

        return self._request(work, addition).answer_sync(self._writer.post)

    def replace(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes] | None = None,
        only_new: bool = False,
    ) -> Position:
        """See `SessionStore.replace`."""
        addition = Addition.of(messages, metadata, compaction)
        born = None if created_at is None else microseconds(created_at)
        row = row_from_key(key)
        self._look_for_old_file(key)

        def work(transaction: Transaction) -> Position:
            session = find(transaction, row)
            if only_new and session is not None:
                raise SessionExists(key)
            position = replace(
                transaction, row, session, addition, self._books.now(), created_at=born
            )
            if slips:
                session = find(transaction, row)
                assert session is not None  # it was just made
                write_slips(transaction, session, slips)
            return position

        return self._request(work, addition).answer_sync(self._writer.post)

    def clear(self, key: str) -> SessionRecord | None:
        """See `SessionStore.clear`."""
        row = row_from_key(key)
        self._look_for_old_file(key)

        def work(transaction: Transaction) -> StoredSession | None:
            clear(transaction, row, find(transaction, row), self._books.now())
            return read_session(transaction.connection, row, None, None)

        stored = self._request(work).answer_sync(self._writer.post)
        return self._record(key, stored)

    def delete(self, key: str) -> bool:
        """See `SessionStore.delete`."""
        row = row_from_key(key)
        self._look_for_old_file(key)
        return self._request(
            lambda transaction: remove(transaction, row, find(transaction, row))
        ).answer_sync(self._writer.post)

    def flush(self) -> int:
        """See `SessionStore.flush`. Counts the writes of all processes."""
        if not self._writer.started or self._writer.closed:
            return 0
        request = Request(self._books.count, forced=True, after=self._books.note_flush).answer_sync(
            self._writer.post
        )
        return request.sessions

    def close(self) -> None:
        """See `SessionStore.close`.

        Raises:
          StoreError: What was written last could not be made durable; the store is closed all the same.
        """
        self._importer.stop()
        try:
            self._writer.close()
        finally:
            self._readers.close()

    def __del__(self) -> None:
        # Half made, if the constructor was refused.
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.close_soon()

    # --- fork, see `ForkAware`

    def pause(self, timeout_s: float) -> bool:
        """See `ForkAware`."""
        if not self._readers.pause(timeout_s):
            return False
        if not self._writer.pause(timeout_s):
            self._readers.resume()
            return False
        return True

    def resume(self) -> None:
        """See `ForkAware`."""
        self._writer.resume()
        self._readers.resume()

    def begin_anew(self, *, usable: bool) -> None:
        """See `ForkAware`."""
        self._writer.abandon()
        if not usable:
            _left_behind.append((self._writer, self._readers))
        self._assemble()
        self._unusable = not usable

    # --- the parts

    def _request(
        self, work: Callable[[Transaction], T], addition: Addition | None = None
    ) -> Request[T]:
        """A write, of which the index is told once it is committed."""
        indexer = self._books.indexer
        added = 0 if addition is None else len(addition.bodies)
        return Request(work, after=lambda _: indexer.note(added))

    def _grant(
        self,
        key: bytes,
        last: int | None,
        covered: int | None,
        unless_at: Position | None,
        addition: Addition,
        transaction: Transaction,
    ) -> _Granted:
        session = find(transaction, key)
        token, epoch = self._desk.grant(
            transaction, key, None if session is None else session.epoch
        )
        position = position_of(session, epoch)
        slips = {} if session is None else read_slips(transaction, session)
        if unless_at == (None if session is None else position):
            if slips or addition.empty:
                return _Granted(token, epoch, position, slips=slips)
            position = add(transaction, key, session, epoch, addition, self._books.now())
            return _Granted(token, epoch, position, appended=len(addition.bodies))
        if session is None:
            return _Granted(token, epoch, position)
        stored = read_session(transaction.connection, key, last, covered, at_most=_READ_ALONG)
        return _Granted(token, epoch, position, stored, slips)

    def _append(
        self,
        key: bytes,
        lease: Lease,
        addition: Addition,
        slips: Mapping[str, bytes | None] | None,
        release: bool,
        transaction: Transaction,
    ) -> Position:
        held = transaction.one(_LEASED_SESSION, (key,))
        if held is None or held[0] != lease.token:
            raise SessionFenced(lease.key)
        if held[1] != lease.epoch:
            raise SessionGone(lease.key)
        session = None if held[2] is None else SessionRow(*held[2:])
        if slips and session is None and addition.empty:
            raise UsageError(f"there is no session {lease.key!r:.200} to put a slip beside")
        position = add(transaction, key, session, lease.epoch, addition, self._books.now())
        if slips:
            session = session or find(transaction, key)
            assert session is not None  # it was there, or was added to
            write_slips(transaction, session, slips)
        if release:
            self._desk.release(transaction, key, lease.token)
        return position

    async def _leased(
        self, lease: Lease, granted: _Granted, last: int | None, covered: int | None
    ) -> Leased:
        if granted.stored is not None and granted.stored.unread:
            record = await trio.to_thread.run_sync(
                partial(self.read, lease.key, last=last, covered=covered), abandon_on_cancel=True
            )
            # Nobody appends meanwhile; but somebody may have cleared the session, which the lease will tell.
            position = granted.position if record is None else record.position
            return Leased(lease, position, record, granted.slips)
        record = self._record(lease.key, granted.stored)
        appended = granted.appended > 0
        return Leased(lease, granted.position, record, granted.slips, appended=appended)

    def _record(self, key: str, stored: StoredSession | None) -> SessionRecord | None:
        """Decode a session, in the thread of whoever asked."""
        try:
            return None if stored is None else stored.record(key)
        except DamagedRow as error:
            raise store_error(self._path, error) from error

    def _release(self, lease: Lease) -> None:
        """Give a lease back without waiting: whoever comes next comes after it in the writer's queue."""
        if not self._tenancies.holds(lease.key, lease.token):
            return
        row = row_from_key(lease.key)
        try:
            self._writer.post(
                Request(
                    lambda transaction: LeaseDesk.release(transaction, row, lease.token),
                    durable=False,
                )
            )
        except StoreError:
            pass  # closed, which has ended all leases; or out of threads, and the next beat does it
        self._tenancies.end(lease)

    def _snapshot(self) -> AbstractContextManager[sqlite3.Connection | None]:
        """Where to read; the file is made, or brought up to date, before it is first read."""
        if not self._books.opened and not self._writer.closed:
            self._refuse_if_closed()
            Request(lambda transaction: None, durable=False).answer_sync(self._writer.post)
        return self._readers.snapshot()

    def _look_for_old_file(self, key: str) -> None:
        self._refuse_if_unusable()
        if not self._importer.finished and not self._writer.closed:
            self._importer.bring(key)

    def _look_for_old_files(self) -> None:
        self._refuse_if_unusable()
        if not self._importer.finished and not self._writer.closed:
            self._importer.bring_all()

    def _refuse_if_closed(self) -> None:
        self._refuse_if_unusable()
        if self._writer.closed:
            raise closed_error()

    def _refuse_if_unusable(self) -> None:
        if self._unusable:
            raise StoreError(
                f"this process was forked while its parent was waiting for the session database {self._path}, which SQLite "
                "cannot bear: fork before the first run, or start processes with multiprocessing's spawn"
            )


class _Counted(Struct, frozen=True):
    sessions: int
    version: int


class _Books:
    """What the writer's thread knows about what it has written."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.indexer = Indexer()
        self.opened = False
        self._clock = clock
        self._flushed = 0  # the last number that was given out when everything was flushed
        self._first_write: int | None = None  # since then

    def open(self, connection: sqlite3.Connection, *, full_text: bool) -> None:
        """Begin, or go on after the file was opened again."""
        self.indexer.start(connection, enabled=full_text and has_fts5(connection))
        if not self.opened:
            self._flushed = Transaction(connection).last_number()
            self.opened = True

    def now(self) -> int:
        """The time of a write, in microseconds."""
        written_at = microseconds(self._clock())
        if self._first_write is None or written_at < self._first_write:
            self._first_write = written_at
        return written_at

    def count(self, transaction: Transaction) -> _Counted:
        """How many sessions were written since the last flush."""
        count = 0
        if self._first_write is not None:
            count = count_since(transaction.connection, self._first_write, self._flushed)
        return _Counted(count, transaction.number())  # the number is what is written and synced

    def note_flush(self, counted: _Counted) -> None:
        """Everything is on the disk."""
        self._flushed = counted.version
        self._first_write = None


def _connected(
    path: Path, desk: LeaseDesk, books: _Books, *, full_text: bool, lock_timeout_s: float
) -> sqlite3.Connection:
    connection = open_for_writing(path, lock_timeout_s=lock_timeout_s)
    try:
        desk.register(connection)
        books.open(connection, full_text=full_text)
    except BaseException:
        connection.close()
        raise
    return connection


# What a forked child may not even close; see `nanobot.sessions._sqlite_fork`.
_left_behind: list[object] = []
