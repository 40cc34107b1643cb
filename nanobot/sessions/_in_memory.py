"""A store that lasts as long as its process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import trio
from msgspec import Struct

from nanobot.errors import StoreError, UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased, SessionFenced, SessionGone
from ._record import Compaction, Position, SessionRecord, merged_metadata, refuse_negative
from ._search import SearchHit
from ._search_text import folded, has_phrases, hit_of, phrases_of, text_of
from ._snapshot import SessionInfo, preview_of, title_of
from ._store import SessionExists
from ._turnstile import Turnstiles, Waiter

__all__ = ["InMemoryStore"]

# One lock for all stores: each holds it for microseconds, and so one hook is enough for none to be forked while it is
# held, which would leave the child without anybody to release it. Reentrant, for a signal handler may look at a session.
_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


class _Session(Struct, eq=False):
    epoch: int
    created_at: datetime
    updated_at: datetime
    version: int = 0
    messages: list[Message] = []
    metadata: dict[str, Any] = {}  # replaced when it changes, never changed
    compaction: Compaction | None = None
    preview: str = ""
    slips: dict[str, bytes] = {}  # as the metadata


class _Tenancy(Struct, eq=False):
    """A lease that was given: to whom, and for which life of the session."""

    lease: Lease
    waiter: Waiter


class InMemoryStore:
    """Keeps sessions in memory: for tests, and for programs that want to forget.

    Implements `SessionStore` and `SessionSearch`. Leases end with the Trio run that took them, so that one which crashed,
    or was left behind by a fork, blocks nothing. What is stored is shared, not copied: messages are frozen.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Start empty. `now` gives the timezone-aware time of each write."""
        self._now = now
        self._numbers = count(1)  # epochs, tokens and versions: each only has to grow
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # by last write, oldest first
        self._turnstiles = Turnstiles()
        self._tenancies: dict[str, _Tenancy] = {}
        self._unflushed: set[str] = set()
        self._closed = False

    @property
    def blocks(self) -> bool:
        """See `SessionStore.blocks`."""
        return False

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
        with _LOCK:
            self._refuse_if_closed()
            waiter = self._turnstiles.enter(key)
        try:
            await waiter.wait()
            with _LOCK:
                self._refuse_if_closed()
                return self._lease(key, waiter, last, covered, unless_at, messages)
        except (
            BaseException
        ):  # Cancelled, KeyboardInterrupt, or closed: out of the queue either way
            with _LOCK:
                self._turnstiles.leave(key, waiter)
            raise

    async def release_lease(self, lease: Lease) -> None:
        """See `SessionStore.release_lease`."""
        with _LOCK:
            self._end(lease)

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
        with _LOCK:
            self._refuse_if_closed()
            tenancy = self._tenancies.get(lease.key)
            if tenancy is None or tenancy.lease.token != lease.token:
                raise SessionFenced(lease.key)
            if tenancy.lease.epoch != lease.epoch:
                raise SessionGone(lease.key)
            if slips and not messages and metadata is None and lease.key not in self._sessions:
                raise UsageError(f"there is no session {lease.key!r:.200} to put a slip beside")
            position = self._add(lease.key, lease.epoch, messages, metadata, compaction)
            if slips:
                kept = {**self._sessions[lease.key].slips, **slips}
                self._sessions[lease.key].slips = {
                    name: body for name, body in kept.items() if body is not None
                }
            if release:
                self._end(lease)
            return position

    async def aclose(self) -> None:
        """See `SessionStore.aclose`."""
        self.close()

    def read(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """See `SessionStore.read`."""
        refuse_negative(last, covered)
        with _LOCK:
            return self._record(key, last, covered)

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """See `SessionStore.list_sessions`."""
        refuse_negative(limit)
        with _LOCK:
            newest_first = list(islice(reversed(self._sessions.items()), limit))
        return tuple(
            SessionInfo(
                key=key,
                created_at=session.created_at.isoformat(),
                updated_at=session.updated_at.isoformat(),
                title=title_of(session.metadata),
                preview=session.preview,
                message_count=len(session.messages),
            )
            for key, session in newest_first
        )

    def search(self, text: str, limit: int = 20) -> tuple[SearchHit, ...]:
        """See `SessionSearch.search`. Reads every message; the latest session comes first."""
        refuse_negative(limit)
        phrases = phrases_of(text)
        if not phrases:
            return ()
        with _LOCK:
            newest_first = [
                (key, [*kept.messages]) for key, kept in reversed(self._sessions.items())
            ]
        found = (
            hit_of(key, number, message, text.split())
            for key, messages in newest_first
            for number, message in reversed([*enumerate(messages, 1)])
            if has_phrases(folded(text_of(message)), phrases)
        )
        return tuple(islice(found, limit))

    def list_slips(self, name: str, *, key: str | None = None) -> tuple[tuple[str, bytes], ...]:
        """See `SessionStore.list_slips`."""
        with _LOCK:
            keys = self._sessions if key is None else [key]
            return tuple(
                (each, self._sessions[each].slips[name])
                for each in keys
                if each in self._sessions and name in self._sessions[each].slips
            )

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        """See `SessionStore.swap_slip`."""
        with _LOCK:
            self._refuse_if_closed()
            session = self._sessions.get(key)
            if session is None or session.slips.get(name) != old:
                return False
            kept = {**session.slips, name: new}
            session.slips = {each: body for each, body in kept.items() if body is not None}
            return True

    def extend(
        self, key: str, messages: Sequence[Message], *, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """See `SessionStore.extend`."""
        with _LOCK:
            self._refuse_if_closed()
            if self._turnstiles.taken(key):
                return False
            self._add(key, next(self._numbers), messages, metadata, None)
            return True

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
        _refuse_impossible(compaction, len(messages))
        session = self._new_session(0, metadata=merged_metadata({}, metadata or {}))
        session.messages = list(messages)
        session.preview = preview_of(messages)
        session.compaction = compaction
        session.created_at = created_at or session.created_at
        session.slips = {**(slips or {})}
        with _LOCK:
            self._refuse_if_closed()
            if only_new and key in self._sessions:
                raise SessionExists(key)
            session.epoch = self._next_epoch(key)
            self._put(key, session)
            return _position(session)

    def clear(self, key: str) -> SessionRecord | None:
        """See `SessionStore.clear`."""
        with _LOCK:
            self._refuse_if_closed()
            epoch = self._next_epoch(key)  # a turn that has written nothing yet shall write nothing
            cleared = self._sessions.get(key)
            if cleared is None:
                return None
            session = self._new_session(epoch, metadata=cleared.metadata)
            session.created_at = cleared.created_at
            self._put(key, session)
            return self._record(key, None, None)

    def delete(self, key: str) -> bool:
        """See `SessionStore.delete`."""
        with _LOCK:
            self._refuse_if_closed()
            self._next_epoch(key)
            self._unflushed.discard(key)
            return self._sessions.pop(key, None) is not None

    def flush(self) -> int:
        """Return how many sessions were written since the last time; there is nothing to make durable."""
        with _LOCK:
            flushed, self._unflushed = self._unflushed, set()
        return len(flushed)

    def close(self) -> None:
        """See `SessionStore.close`."""
        self._closed = True

    # What follows is called under the lock.

    def _lease(
        self,
        key: str,
        waiter: Waiter,
        last: int | None,
        covered: int | None,
        unless_at: Position | None,
        messages: Sequence[Message],
    ) -> Leased:
        session = self._sessions.get(key)
        epoch = session.epoch if session else next(self._numbers)
        lease = Lease(key, next(self._numbers), epoch)
        position = _position(session) if session else Position(epoch, 0, 0)
        as_expected = unless_at == (position if session else None)
        record = None if as_expected else self._record(key, last, covered)
        self._tenancies[key] = _Tenancy(lease, waiter)
        slips = {} if session is None else session.slips
        appended = bool(messages) and as_expected and not slips
        if appended:
            position = self._add(key, epoch, messages, None, None)
        return Leased(lease, position, record, slips, appended=appended)

    def _end(self, lease: Lease) -> None:
        tenancy = self._tenancies.get(lease.key)
        if tenancy is not None and tenancy.lease.token == lease.token:
            del self._tenancies[lease.key]
            self._turnstiles.leave(lease.key, tenancy.waiter)

    def _next_epoch(self, key: str) -> int:
        """Begin another life of the session; whoever holds its lease holds it for the one before."""
        epoch = next(self._numbers)
        tenancy = self._tenancies.get(key)
        if tenancy is not None:
            tenancy.lease = Lease(key, tenancy.lease.token, epoch)
        return epoch

    def _add(
        self,
        key: str,
        epoch: int,
        messages: Sequence[Message],
        metadata: Mapping[str, Any] | None,
        compaction: Compaction | None,
    ) -> Position:
        session = self._sessions.get(key)
        if not messages and metadata is None and compaction is None:
            return _position(session) if session else Position(epoch, 0, 0)
        _refuse_impossible(compaction, (len(session.messages) if session else 0) + len(messages))
        if metadata is not None:
            metadata = merged_metadata(session.metadata if session else {}, metadata)
        # Nothing can fail from here on.
        session = session or self._new_session(epoch, metadata={})
        session.messages.extend(messages)
        session.metadata = session.metadata if metadata is None else metadata
        session.compaction = compaction or session.compaction
        session.preview = session.preview or preview_of(messages)
        self._put(key, session)
        return _position(session)

    def _new_session(self, epoch: int, *, metadata: dict[str, Any]) -> _Session:
        now = self._now()
        return _Session(epoch, created_at=now, updated_at=now, metadata=metadata)

    def _put(self, key: str, session: _Session) -> None:
        session.updated_at = self._now()
        session.version = next(self._numbers)
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        self._unflushed.add(key)

    def _record(self, key: str, last: int | None, covered: int | None) -> SessionRecord | None:
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

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreError("the session store is closed: sessions can be read, not written")


def _position(session: _Session) -> Position:
    return Position(session.epoch, len(session.messages), session.version)


def _refuse_impossible(compaction: Compaction | None, count: int) -> None:
    if compaction is not None and not 0 <= compaction.through <= count:
        raise UsageError(
            f"a summary through message {compaction.through} covers messages that do not exist"
        )
