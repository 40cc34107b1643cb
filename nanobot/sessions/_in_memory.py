"""A store that lasts as long as its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import trio

from nanobot.errors import StoreError, UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased, SessionFenced, SessionGone
from ._record import Compaction, Position, SessionRecord, merged_metadata
from ._snapshot import SessionInfo, preview_of, title_of

__all__ = ["InMemoryStore"]


@dataclass(slots=True)
class _Session:
    epoch: int
    created_at: datetime
    updated_at: datetime
    version: int = 0
    messages: list[Message] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    compaction: Compaction | None = None
    preview: str = ""


@dataclass(slots=True)
class _Ownership:
    """Who owns a session's next turn, and who waits for it. Exists only while somebody does either."""

    turnstile: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(1))
    attending: int = 0
    token: int = 0
    epoch: int = 0


class InMemoryStore:
    """Keeps sessions in memory: for tests, and for programs that want to forget.

    Implements `SessionStore`. Used by one Trio run at a time; leases end with the run that took them, so that one which
    crashed, or was left behind by a fork, blocks nothing. What is stored is shared, not copied: messages are frozen.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Start empty. `now` gives the timezone-aware time of each write."""
        self._now = now
        self._numbers = count(1)  # epochs, tokens and versions: each only has to grow
        self._sessions: dict[str, _Session] = {}
        self._ownerships: dict[str, _Ownership] = {}
        self._run: trio.lowlevel.TrioToken | None = None
        self._unflushed: set[str] = set()
        self._closed = False

    async def acquire_lease(
        self,
        key: str,
        *,
        last: int | None = None,
        covered: int | None = None,
        unless_at: Position | None = None,
    ) -> Leased:
        """See `SessionStore.acquire_lease`."""
        _refuse_negative(last, covered)
        self._refuse_if_closed()
        self._forget_owners_of_another_run()
        ownership = self._ownerships.setdefault(key, _Ownership())
        ownership.attending += 1
        try:
            await ownership.turnstile.acquire()
        except BaseException:  # Cancelled or KeyboardInterrupt: out of the queue either way
            self._leave(key, ownership)
            raise
        if self._closed:
            ownership.turnstile.release()
            self._leave(key, ownership)
            self._refuse_if_closed()
        session = self._sessions.get(key)
        ownership.token = next(self._numbers)
        ownership.epoch = session.epoch if session else next(self._numbers)
        position = _position(session) if session else Position(ownership.epoch, 0, 0)
        known = session is None or position == unless_at
        record = None if known else self._record(key, last=last, covered=covered)
        return Leased(Lease(key, ownership.token, ownership.epoch), position, record)

    async def release_lease(self, lease: Lease) -> None:
        """See `SessionStore.release_lease`."""
        self._end(lease)
        await trio.lowlevel.cancel_shielded_checkpoint()  # callers come from a `finally`

    async def load(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """See `SessionStore.load`."""
        _refuse_negative(last, covered)
        await trio.lowlevel.checkpoint()
        return self._record(key, last=last, covered=covered)

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        release: bool = False,
    ) -> Position:
        """See `SessionStore.append`."""
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        ownership = self._ownerships.get(lease.key)
        if ownership is None or ownership.token != lease.token:
            raise SessionFenced(lease.key)
        if ownership.epoch != lease.epoch:
            raise SessionGone(lease.key)
        session = self._sessions.get(lease.key)
        stored = len(session.messages) if session else 0
        if compaction is not None and not 0 <= compaction.through <= stored + len(messages):
            raise UsageError(
                f"a summary through message {compaction.through} covers messages that do not exist"
            )
        if metadata is not None:
            metadata = merged_metadata(session.metadata if session else {}, metadata)
        # Nothing can fail from here on.
        if messages or metadata is not None or compaction is not None:
            session = session or self._begin(lease.key, lease.epoch)
            session.metadata = session.metadata if metadata is None else dict(metadata)
            session.compaction = compaction or session.compaction
            self._write(lease.key, session, messages)
        if release:
            self._end(lease)
        return _position(session) if session else Position(lease.epoch, 0, 0)

    async def replace(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> Position:
        """See `SessionStore.replace`."""
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        kept = merged_metadata({}, metadata or {})
        session = self._begin(key, self._next_epoch(key))
        session.metadata = kept
        if created_at is not None:
            session.created_at = created_at
        self._write(key, session, messages)
        return _position(session)

    async def clear(self, key: str) -> SessionRecord | None:
        """See `SessionStore.clear`."""
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        epoch = self._next_epoch(
            key
        )  # also a turn that has written nothing yet shall write nothing
        cleared = self._sessions.get(key)
        if cleared is None:
            return None
        session = self._begin(key, epoch)
        session.metadata = cleared.metadata
        session.created_at = cleared.created_at
        self._write(key, session, ())
        return self._record(key, last=None, covered=None)

    async def delete(self, key: str) -> bool:
        """See `SessionStore.delete`."""
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        self._next_epoch(key)
        self._unflushed.discard(key)
        return self._sessions.pop(key, None) is not None

    async def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """See `SessionStore.list_sessions`."""
        _refuse_negative(limit)
        await trio.lowlevel.checkpoint()
        newest_first = sorted(
            self._sessions.items(),
            key=lambda item: (item[1].updated_at, item[1].version),
            reverse=True,
        )
        return tuple(
            SessionInfo(
                key=key,
                created_at=session.created_at.isoformat(),
                updated_at=session.updated_at.isoformat(),
                title=title_of(session.metadata),
                preview=session.preview,
                message_count=len(session.messages),
            )
            for key, session in newest_first[:limit]
        )

    async def flush(self) -> int:
        """Return how many sessions were written since the last time; there is nothing to make durable."""
        await trio.lowlevel.checkpoint()
        flushed = len(self._unflushed)
        self._unflushed.clear()
        return flushed

    async def aclose(self) -> None:
        """See `SessionStore.aclose`."""
        self._closed = True
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _begin(self, key: str, epoch: int) -> _Session:
        now = self._now()
        session = self._sessions[key] = _Session(epoch, created_at=now, updated_at=now)
        return session

    def _write(self, key: str, session: _Session, messages: Sequence[Message]) -> None:
        session.messages.extend(messages)
        session.preview = session.preview or preview_of(messages)
        session.updated_at = self._now()
        session.version = next(self._numbers)
        self._unflushed.add(key)

    def _record(self, key: str, *, last: int | None, covered: int | None) -> SessionRecord | None:
        session = self._sessions.get(key)
        if session is None:
            return None
        start = 0
        if covered is not None and session.compaction is not None:
            start = max(start, session.compaction.through - covered)
        if last is not None:
            start = max(start, len(session.messages) - last)
        return SessionRecord(
            key=key,
            position=_position(session),
            messages=tuple(session.messages[start:]),
            metadata=merged_metadata({}, session.metadata),
            created_at=session.created_at,
            updated_at=session.updated_at,
            compaction=session.compaction,
        )

    def _next_epoch(self, key: str) -> int:
        """Begin another life of the session; whoever holds its lease holds it for the one before."""
        epoch = next(self._numbers)
        if ownership := self._ownerships.get(key):
            ownership.epoch = epoch
        return epoch

    def _end(self, lease: Lease) -> None:
        ownership = self._ownerships.get(lease.key)
        if ownership is None or ownership.token != lease.token:
            return
        ownership.token = 0
        ownership.turnstile.release()
        self._leave(lease.key, ownership)

    def _leave(self, key: str, ownership: _Ownership) -> None:
        ownership.attending -= 1
        if not ownership.attending and self._ownerships.get(key) is ownership:
            del self._ownerships[key]

    def _forget_owners_of_another_run(self) -> None:
        run = trio.lowlevel.current_trio_token()
        if run is not self._run:
            self._ownerships.clear()
            self._run = run

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreError("the session store is closed: sessions can be read, not written")


def _position(session: _Session) -> Position:
    return Position(session.epoch, len(session.messages), session.version)


def _refuse_negative(*counts: int | None) -> None:
    for number in counts:
        if number is not None and number < 0:
            raise UsageError(f"a count of messages or sessions cannot be negative: {number}")
