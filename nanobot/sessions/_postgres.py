"""The store for many processes: one PostgreSQL database."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import trio

from nanobot.errors import StoreError, UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased, SessionFenced, SessionGone
from ._postgres_address import Address
from ._postgres_connections import ANSWER_TIMEOUT_S, MAX_CONNECTIONS, Connection, Connections
from ._postgres_desk import Bell, Desk, Held
from ._postgres_errors import UncertainWrite, closed_error
from ._postgres_listener import FOLLOW, LEASE_TIMEOUT_S, Listener
from ._postgres_rows import Addition, KeyRow, StoredSession
from ._postgres_search import search
from ._record import Compaction, Position, SessionRecord, refuse_negative
from ._rows import key_from_row, metadata_from_row, microseconds, moment
from ._search import SearchHit
from ._snapshot import SessionInfo
from ._store import SessionExists
from ._turnstile import Waiter

__all__ = ["PostgresStore"]

T = TypeVar("T")

# Reading a large session, or replacing one, is no statement of a turn.
_LONG_ANSWER_S: Final = 120.0

_ACQUIRE: Final = (
    "SELECT NULL::text, a.* FROM nanobot_acquire(%b, %b, %b, %b::bigint, %b::bigint * interval '1 ms', "
    "%b::integer, %b::integer, %b::bigint, %b::bigint) a"
)
_ACQUIRE_AND_WRITE: Final = (
    "SELECT * FROM nanobot_acquire_and_write(%b, %b, %b, %b::bigint, %b::bigint * interval '1 ms', %b::integer, %b::integer, "
    "%b::bigint, %b::bigint, %b::bigint, %b::integer, %b, %b::bytea[], %b::text[], %b)"
)
_APPEND: Final = (
    "SELECT * FROM nanobot_append(%b, %b, %b, %b::bigint, %b::bigint, %b::integer, %b::bigint, %b, %b::bytea[], %b::text[], "
    "%b, %b::bytea, %b::bytea, %b::integer, %b::bytea, %b::text[], %b::bytea[], %b::bigint, %b, %b)"
)
_EXTEND: Final = (
    "SELECT * FROM nanobot_extend(%b, %b, %b, %b::bigint, %b::bigint, %b, %b::bytea[], %b::text[], %b, %b::bytea, "
    "%b::bytea)"
)
_REPLACE: Final = (
    "SELECT * FROM nanobot_replace(%b, %b, %b, %b::bytea[], %b::text[], %b, %b, %b, %b::integer, %b::bytea, "
    "%b::bigint, %b::text[], %b::bytea[], %b)"
)
_READ: Final = "SELECT * FROM nanobot_read(%b, %b::integer, %b::integer)"
_METADATA: Final = "SELECT version, metadata FROM nanobot_session WHERE digest = %b"
_LIST: Final = """
    SELECT key, created_at, updated_at, title, preview, sequence FROM nanobot_session ORDER BY version DESC LIMIT %b::bigint
"""
_SLIPS: Final = """
    SELECT s.key, p.body FROM nanobot_slip p JOIN nanobot_session s ON s.id = p.session
    WHERE p.name = %b::text AND (%b::bytea IS NULL OR s.digest = %b::bytea) ORDER BY s.id
"""
_SWAP_SLIP: Final = "SELECT nanobot_swap_slip(%b, %b, %b, %b, %b::bytea)"
_LAST_NUMBER: Final = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM nanobot_number"
# Drawing a number is written to the log; waiting for it waits for everything that was written before.
_FLUSH: Final = """
    SELECT count(*), (SELECT nextval('nanobot_number') FROM set_config('synchronous_commit', 'on', true))
    FROM nanobot_session WHERE version > %b::bigint
"""


class PostgresStore:
    """Keeps sessions in a PostgreSQL database that any number of processes, on any machines, share.

    Implements `SessionStore`, `SessionSearch` and `SessionSignals`. Nothing is connected or started before it is first used;
    the tables are made then, or brought up to date. Which sessions there are is said by the database, and by the schema that
    `search_path` names.

    What a write that has returned survives is up to the server: with `synchronous`, as long as its `synchronous_commit` is on, a
    power cut; without, the death of the process, and a crash of the server may take the last half second.

    A lease belongs to a process while it is heard of; one that was silent for `lease_timeout_s` loses its leases, by the clock
    of the database, whatever its own says. If it comes back, its next write raises `SessionFenced`, in the transaction that
    would have written.

    A connection that breaks is made anew, and the statement repeated; a write is not done twice by that. A server that cannot
    be reached for 15 seconds is a `StoreError`. So a cancelled write may take that long to return, too.

    A forked child has the sessions, and none of its parent's leases.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: bool = True,
        max_connections: int = MAX_CONNECTIONS,
        lease_timeout_s: float = LEASE_TIMEOUT_S,
    ) -> None:
        """Connect to nothing yet.

        Args:
          url: The database, as libpq reads it.
          synchronous: Whether a write waits for the server's disk.
          max_connections: How many connections at once, beside the one that listens.
          lease_timeout_s: How long nothing may be heard of a process before it loses its leases. The same for all of them.

        Raises:
          ConfigError: The URL cannot be read.
        """
        self._address = Address(url, synchronous=synchronous)
        self._max_connections = max_connections
        self._lease_timeout_s = lease_timeout_s
        self._assemble()
        _stores.add(self)

    def _assemble(self) -> None:
        self._desk = Desk()
        self._connections = Connections(self._address, most=self._max_connections)
        self._listener = Listener(self._connections, self._desk, timeout_s=self._lease_timeout_s)
        self._limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("limiter")
        self._flushed: int | None = None  # the last number that was given out when all was flushed
        self._flushing = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"PostgresStore({self._address.shown!r})"

    @property
    def blocks(self) -> bool:
        """See `SessionStore.blocks`."""
        return True

    @property
    def place(self) -> Hashable:
        """See `PlacedStore.place`. One server under two names is two places."""
        return "postgres", self._address.place

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
        """See `SessionStore.acquire_lease`. With messages, too, it takes one round trip."""
        refuse_negative(last, covered)
        addition = Addition.of(messages, None, None) if messages else None
        self._refuse_if_closed()
        row = KeyRow.of(key)
        waiter = self._desk.tenancies.enter(key)
        try:
            await waiter.wait()
            return await self._granted(key, row, waiter, last, covered, unless_at, addition)
        except BaseException:
            self._desk.tenancies.leave(key, waiter)
            raise

    async def release_lease(self, lease: Lease) -> None:
        """See `SessionStore.release_lease`. It is given back soon after this returns, together with others."""
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
        """See `SessionStore.append`. With metadata it takes two round trips, else one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        addition = Addition.of(messages, metadata, compaction, slips)
        self._refuse_if_closed()
        held = self._desk.held(lease.token)
        if held is None:
            raise SessionFenced(lease.key)
        async with held.alone:
            position = await self._in_thread(self._append, held, addition, release)
        if release:
            self._desk.end(lease)
        return position

    async def aclose(self) -> None:
        """See `SessionStore.aclose`."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.close)

    # --- everybody, from anywhere

    def read(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """See `SessionStore.read`."""
        refuse_negative(last, covered)
        row = self._one(_READ, KeyRow.of(key).digest, last, covered, answer_s=_LONG_ANSWER_S)
        return None if row[0] is None else StoredSession(*row).record(key)

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """See `SessionStore.list_sessions`."""
        refuse_negative(limit)
        rows = self._query(_LIST, limit, answer_s=_LONG_ANSWER_S)
        return tuple(
            [
                SessionInfo(
                    key=key_from_row(key),
                    created_at=moment(created_at).isoformat(),
                    updated_at=moment(updated_at).isoformat(),
                    title=title.decode(),
                    preview=preview.decode(),
                    message_count=sequence,
                )
                for key, created_at, updated_at, title, preview, sequence in rows
            ]
        )

    def search(self, text: str, limit: int = 20) -> tuple[SearchHit, ...]:
        """See `SessionSearch.search`. The latest are the best: those of the session that was written last come first."""
        refuse_negative(limit)
        return search(partial(self._query, answer_s=_LONG_ANSWER_S), text, limit)

    def list_slips(self, name: str, *, key: str | None = None) -> tuple[tuple[str, bytes], ...]:
        """See `SessionStore.list_slips`."""
        digest = None if key is None else KeyRow.of(key).digest
        rows = self._query(_SLIPS, name, digest, digest, answer_s=_LONG_ANSWER_S)
        return tuple([(key_from_row(row), body) for row, body in rows])

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        """See `SessionStore.swap_slip`."""
        self._refuse_if_closed()
        (swapped,) = self._one(_SWAP_SLIP, *KeyRow.of(key)[:2], name, old, new, repeatable=False)
        return bool(swapped)

    def extend(
        self, key: str, messages: Sequence[Message], *, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """See `SessionStore.extend`."""
        addition = Addition.of(messages, metadata, None)
        self._refuse_if_closed()
        row = KeyRow.of(key)
        if addition.empty:
            return True
        while True:
            attempt = next(self._desk.attempts)
            if self._desk.tenancies.taken(key):
                return False
            kept = self._query(_METADATA, row.digest)
            version, stored = kept[0] if kept else (0, b"{}")
            title, merged = addition.over(metadata_from_row(stored))
            changed = metadata is not None or not kept
            status, *_ = self._one(
                _EXTEND,
                *row[:2],
                self._desk.owner,
                attempt,
                version,
                row.key,
                addition.bodies,
                addition.words,
                addition.preview,
                title if changed else None,
                merged if changed else None,
                repeatable=False,
            )
            if status != "moved":  # somebody was faster; what they wrote is to be read first
                return bool(status == "done")

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
        addition = Addition.of(messages, metadata, compaction, slips)
        self._refuse_if_closed()
        if compaction is not None and not 0 <= compaction.through <= len(addition.bodies):
            raise _impossible(compaction.through)
        row = KeyRow.of(key)
        title, merged = addition.over({})
        epoch, sequence, version = self._one(
            _REPLACE,
            *row,
            addition.bodies,
            addition.words,
            addition.preview,
            title,
            merged,
            addition.through,
            addition.summary,
            None if created_at is None else microseconds(created_at),
            addition.slips,
            addition.slip_bodies,
            only_new,
            repeatable=False,
            answer_s=_LONG_ANSWER_S,
        )
        if epoch is None:
            raise SessionExists(key)
        return Position(epoch, sequence, version)

    def clear(self, key: str) -> SessionRecord | None:
        """See `SessionStore.clear`."""
        self._refuse_if_closed()
        row = self._one(
            "SELECT * FROM nanobot_clear(%b, %b)",
            *KeyRow.of(key)[:2],
            repeatable=False,
            answer_s=_LONG_ANSWER_S,
        )
        return None if row[0] is None else StoredSession(*row).record(key)

    def delete(self, key: str) -> bool:
        """See `SessionStore.delete`."""
        self._refuse_if_closed()
        (found,) = self._one(
            "SELECT nanobot_delete(%b, %b)",
            *KeyRow.of(key)[:2],
            repeatable=False,
            answer_s=_LONG_ANSWER_S,
        )
        return bool(found)

    def flush(self) -> int:
        """See `SessionStore.flush`. Counts the writes of all processes."""
        if self._flushed is None or self._closed:
            return 0
        with self._flushing:
            count, self._flushed = self._one(_FLUSH, self._flushed, answer_s=_LONG_ANSWER_S)
        return int(count)

    def close(self) -> None:
        """See `SessionStore.close`. Gives all leases back."""
        self._closed = True
        self._desk.ring_all()
        self._listener.stop()
        self._connections.close()

    def __del__(self) -> None:
        listener = getattr(self, "_listener", None)  # half made, if the constructor was refused
        if listener is not None:
            listener.stop_soon()

    # --- signals

    def request_cancel(self, key: str) -> bool:
        """See `SessionSignals.request_cancel`. Reaches every process."""
        self._refuse_if_closed()
        (asked,) = self._one("SELECT nanobot_cancel(%b, %b)", *KeyRow.of(key)[:2])
        return bool(asked)

    def on_cancel(self, cancel: Callable[[str], object]) -> None:
        """See `SessionSignals.on_cancel`."""
        self._desk.on_cancel(cancel)

    @asynccontextmanager
    async def watch(self, key: str) -> AsyncIterator[Bell]:
        """See `SessionSignals.watch`. Hears of the writes of all processes."""
        self._refuse_if_closed()
        row = KeyRow.of(key)
        bell, attempt = self._desk.follow(row.digest)
        try:
            self._listener.attend()
            if attempt is not None:
                timeout_ms = round(self._lease_timeout_s * 1000)
                values = (row.digest, row.lock, self._desk.owner, attempt, timeout_ms)
                await self._in_thread(self._query, FOLLOW, *values, abandon=True)
                self._desk.announced(row.digest)
            yield bell
        finally:
            self._desk.stop_following(row.digest, bell)

    # --- the parts

    async def _granted(
        self,
        key: str,
        row: KeyRow,
        waiter: Waiter,
        last: int | None,
        covered: int | None,
        unless_at: Position | None,
        addition: Addition | None,
    ) -> Leased:
        bell = self._desk.wait(row.digest, key)
        asking = False
        try:
            self._listener.attend()
            while True:
                self._refuse_if_closed()
                attempt = _Attempt(self, row, key, waiter)
                asking = True
                try:
                    leased = await self._in_thread(
                        attempt.make, last, covered, unless_at, addition, abandon=addition is None
                    )
                except BaseException:
                    attempt.abandon()
                    raise
                if leased is not None:
                    asking = False
                    return leased
                await bell.wait()
        finally:
            self._desk.stop_waiting(row.digest, bell)
            if asking:
                self._listener.leave(row)

    def _ask(
        self,
        row: KeyRow,
        last: int | None,
        covered: int | None,
        unless_at: Position | None,
        addition: Addition | None,
    ) -> tuple[Any, ...]:
        """Ask the database for a lease, in one round trip."""
        first = next(self._desk.attempts)

        def work(connection: Connection, again: bool) -> tuple[Any, ...]:
            values: tuple[Any, ...] = (
                *row[:2],
                self._desk.owner,
                next(self._desk.attempts) if again else first,  # another one each time it is sent
                round(self._lease_timeout_s * 1000),
                last,
                covered,
                None if unless_at is None else unless_at.epoch,
                None if unless_at is None else unless_at.version,
            )
            statement = _ACQUIRE
            if addition is not None:
                statement = _ACQUIRE_AND_WRITE
                added = (row.key, addition.bodies, addition.words, addition.preview)
                values = (*values, first, 0 if unless_at is None else unless_at.sequence, *added)
            answer = connection.cursor(binary=True).execute(statement, values).fetchone()
            assert answer is not None  # a function returns a row
            return answer

        return self._run(work)

    def _append(self, held: Held, addition: Addition, release: bool) -> Position:
        """In a thread of its own. Exactly once: what is sent again says so, and where the session stood before."""
        if held.uncertain:
            raise StoreError(
                f"session {held.lease.key!r:.200}: an earlier write of this turn may or may not have been stored"
            )
        lease, position = held.lease, held.position
        title = merged = None
        if addition.metadata is not None:  # nobody else writes meanwhile
            kept = self._query(_METADATA, held.row.digest)
            title, merged = addition.over(metadata_from_row(kept[0][1]) if kept else {})
        values = (
            *held.row[:2],
            self._desk.owner,
            lease.token,
            lease.epoch,
            position.sequence,
            position.version,
            held.row.key,
            addition.bodies,
            addition.words,
            addition.preview,
            title,
            merged,
            addition.through,
            addition.summary,
            addition.slips,
            addition.slip_bodies,
            next(self._desk.attempts),  # the same one each time it is sent
            release,
        )

        def work(connection: Connection, again: bool) -> tuple[Any, ...]:
            answer = connection.cursor(binary=True).execute(_APPEND, (*values, again)).fetchone()
            assert answer is not None  # a function returns a row
            return answer

        try:
            answer = self._run(work)
        except UncertainWrite:
            held.uncertain = True
            raise
        status, sequence, version = answer
        match status:
            case "done":
                held.position = Position(lease.epoch, sequence, version)
                return held.position
            case "gone":
                raise SessionGone(lease.key)
            case "impossible":
                raise _impossible(addition.through)
            case "absent":
                raise UsageError(f"there is no session {lease.key!r:.200} to put a slip beside")
            case "unknown":
                raise UncertainWrite(
                    f"session {lease.key!r:.200}: the lease has ended since this write was first sent, which may or may not"
                    " have been stored"
                )
            case _:
                raise SessionFenced(lease.key)

    def _release(self, lease: Lease) -> None:
        held = self._desk.end(lease)
        if held is not None and not self._closed:
            self._listener.give_back(held)

    async def _in_thread(
        self, function: Callable[..., T], *values: Any, abandon: bool = False
    ) -> T:
        """Call a function that blocks in a thread, as many at once as there are connections."""
        try:
            limiter = self._limiter.get()
        except LookupError:
            limiter = trio.CapacityLimiter(self._max_connections)
            self._limiter.set(limiter)
        return await trio.to_thread.run_sync(
            partial(function, *values), limiter=limiter, abandon_on_cancel=abandon
        )

    def _one(self, statement: str, *values: Any, **how: Any) -> tuple[Any, ...]:
        """The only row that a statement returns; () if there is none."""
        rows = self._query(statement, *values, **how)
        return rows[0] if rows else ()

    def _query(
        self,
        statement: str,
        *values: Any,
        repeatable: bool = True,
        answer_s: float = ANSWER_TIMEOUT_S,
    ) -> list[tuple[Any, ...]]:
        def work(connection: Connection, _again: bool) -> list[tuple[Any, ...]]:
            cursor = connection.cursor(binary=True)
            return cursor.execute(statement, values or None).fetchall()

        return self._run(work, repeatable=repeatable, answer_s=answer_s)

    def _run(self, work: Callable[[Connection, bool], T], **how: Any) -> T:
        if self._flushed is None and not self._closed:
            self._note_beginning()
        return self._connections.run(work, **how)

    def _note_beginning(self) -> None:
        """What was written before this store was first used is not counted by `flush`."""
        with self._flushing:
            if self._flushed is None:
                (self._flushed,) = self._connections.run(
                    lambda connection, _: connection.execute(_LAST_NUMBER).fetchall()
                )[0]

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise closed_error()


class _Attempt:
    """One request for a lease, made in a thread. Whoever asked may be gone before it is answered."""

    def __init__(self, store: PostgresStore, row: KeyRow, key: str, waiter: Waiter) -> None:
        self._store = store
        self._row = row
        self._key = key
        self._waiter = waiter
        self._lock = threading.Lock()
        self._abandoned = False
        self._lease: Lease | None = None

    def make(
        self,
        last: int | None,
        covered: int | None,
        unless_at: Position | None,
        addition: Addition | None,
    ) -> Leased | None:
        """Ask; returns None if others have the session, or are first."""
        store = self._store
        status, token, lease_epoch, names, bodies, *stored = store._ask(
            self._row, last, covered, unless_at, addition
        )
        if status == "unknown":
            raise UncertainWrite(
                f"session {self._key!r:.200}: others have written to it since this write was first sent, which may or may"
                " not have been stored"
            )
        if token is None:
            return None
        lease = Lease(self._key, token, lease_epoch)
        epoch, sequence, version = stored[:3]
        position = (
            Position(lease_epoch, 0, 0) if epoch is None else Position(epoch, sequence, version)
        )
        with self._lock:
            if self._abandoned:
                store._listener.give_back(Held(self._row, lease, position, trio.Lock()))
                return None
            self._lease = lease
            store._desk.begin(self._row, lease, position, self._waiter)
        record = None if stored[-1] is None else StoredSession(*stored).record(self._key)
        slips = dict(zip(names or (), bodies or (), strict=True))
        return Leased(lease, position, record, slips, appended=status == "done")

    def abandon(self) -> None:
        """Give back what there is, or will be."""
        with self._lock:
            self._abandoned = True
            lease = self._lease
        if lease is not None:
            self._store._release(lease)


def _impossible(through: int | None) -> UsageError:
    return UsageError(f"a summary through message {through} covers messages that do not exist")


_stores: weakref.WeakSet[PostgresStore] = weakref.WeakSet()
_left_behind: list[object] = []
"""What belongs to the parent, and may not be closed in a forked child."""


def _begin_anew() -> None:
    for store in tuple(_stores):
        _left_behind.append((store._desk, store._connections, store._listener))
        store._assemble()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
