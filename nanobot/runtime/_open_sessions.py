"""The sessions that runs have open: what is known of each while its actor lives, and the only way to write to one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from nanobot.agent import OpenTurn, open_turn_from_bytes, settled
from nanobot.context import TextCounter
from nanobot.errors import StoreError
from nanobot.messages import Message, UserMessage, repair
from nanobot.sessions import (
    Compaction,
    Lease,
    Pending,
    Position,
    SessionRecord,
    SessionStore,
    Unsaved,
    read_soon,
    release_lease,
)
from nanobot.sessions._rows import json_bytes

from ._history_view import HistoryView, count_shown_ahead
from ._nesting import refuse_open_around
from ._run import CURRENT_RUN

__all__ = ["OPEN_TURN", "Ahead", "OpenSession", "OpenSessions", "SessionOutOfReach"]

OPEN_TURN = "turn"
"""The name of the slip that has the open turn of a session."""

_log = logging.getLogger("nanobot.sessions")

_NOTHING = Pending()
_NOWHERE = Position(0, 0, 0)


class Ahead(Struct, frozen=True):
    """A message that may be stored with a lease.

    Attributes:
      position: Where the session stood when the turn was prepared; None if it was taken for a new one.
      message: The user's message.
    """

    position: Position | None
    message: UserMessage


class OpenSession:
    """One session while a run has its lease. A turn's `Journal`.

    What is pending (see `Unsaved`) counts as part of the session, and is stored by the first write. The last one of a turn gives
    the lease back, unless `writes_after_turn`.
    """

    def __init__(
        self,
        store: SessionStore,
        lease: Lease,
        view: HistoryView,
        unsaved: Unsaved,
        pending: Pending,
        slip: bytes | None = None,
        *,
        writes_after_turn: bool = True,
        ahead: Position | None = None,
    ) -> None:
        self._store = store
        self._lease = lease
        self._view = view
        self._unsaved = unsaved
        self._pending = pending
        self._slip = slip
        self._writes_after_turn = writes_after_turn
        self._released = False
        self._ahead = ahead

    @property
    def key(self) -> str:
        """The session's key."""
        return self._lease.key

    @property
    def lease(self) -> Lease:
        """The right to write to it."""
        return self._lease

    @property
    def has_pending(self) -> bool:
        """Whether something waits to be stored by the next write."""
        return self._pending is not _NOTHING

    @property
    def is_ahead(self) -> bool:
        """Whether the user's message is stored already, and waits to be recorded."""
        return self._ahead is not None

    @property
    def view(self) -> HistoryView:
        """The history as it was stored when it was last known, with the position of then."""
        return self._view

    def history(self) -> HistoryView:
        """The history as a model is shown it, with what is pending."""
        view, pending = self._view, self._pending.messages
        return view.extended(pending) if pending else view

    @property
    def has_open_turn(self) -> bool:
        """Whether a turn is open here."""
        return self._slip is not None

    def open_turn(self) -> OpenTurn | None:
        """The turn that is open here.

        Raises:
          StoreError: What there is of it cannot be read.
        """
        return None if self._slip is None else open_turn_from_bytes(self._slip)

    async def record(
        self, messages: Sequence[Message], open_turn: OpenTurn | None = None, *, last: bool = False
    ) -> None:
        """Store what was said; see `Journal.record`."""
        if self._ahead is not None:  # what comes first is what came along with the lease
            await count_shown_ahead(messages, self._view.count)
            self._view.extend(messages, self._ahead)
            self._ahead = None
            return
        release = last and not self._writes_after_turn
        if open_turn is None and self._slip is None:
            await self.write(messages, release=release)
            return
        slip = None if open_turn is None else json_bytes(open_turn)
        await self.write(messages, slips={OPEN_TURN: slip}, release=release)
        self._slip = slip

    async def give_up_turn(self) -> None:
        """Put what there is of the open turn into the history, each of its calls with what became of it, for nobody goes on
        with it. A turn that cannot be read is dropped.

        Raises:
          StoreError: As from `write`.
        """
        try:
            turn = self.open_turn()
            said = () if turn is None else settled(turn)
        except StoreError as error:
            _log.error("session %.200r: %s; it is given up", self.key, error)
            said = ()
        await self.write(said, slips={OPEN_TURN: None})
        self._slip = None

    async def write(
        self,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        slips: Mapping[str, bytes | None] | None = None,
        release: bool = False,
    ) -> None:
        """Store what is pending and then this, all or nothing, and perhaps give the lease back with that. What is not a legal
        continuation is mended.

        Raises:
          StoreError: It could not be stored; `SessionGone` if the session was cleared or deleted meanwhile.
          UsageError: The metadata is not JSON.
        """
        pending = self._pending
        legal = repair(messages, continues=True).history
        everything = (*pending.messages, *legal) if pending.messages else legal
        if pending.metadata is not None:
            metadata = {**pending.metadata, **(metadata or {})}
        await count_shown_ahead(everything, self._view.count)
        position = await self._store.append(
            self._lease, everything, metadata=metadata, slips=slips, release=release
        )
        self._released = release
        self._view.extend(everything, position)
        if pending is not _NOTHING:
            self._unsaved.forget(self.key, pending)
            self._pending = _NOTHING

    async def aclose(self) -> None:
        """Give the lease back, if it was not given back with the last write."""
        if not self._released:
            await release_lease(self._store, self._lease)  # shielded, and bounded

    async def stored(self) -> SessionRecord | None:
        """The session as it is stored: all that the summary does not cover."""
        return await read_soon(self._store, self.key, covered=0)

    async def compact(self, compaction: Compaction, suffix: Sequence[Message]) -> None:
        """Have a summary stand for what is before `suffix`, the session's last messages as `stored` gave them.

        Raises:
          StoreError: As from `write`.
        """
        position = await self._store.append(self._lease, compaction=compaction)
        self._view = HistoryView(position, suffix, compaction, self._view.count)


class SessionOutOfReach:
    """What a turn has in a session's place when the store cannot give the session. A `Journal` that always fails.

    Attributes:
      view: The history as far as it is known.
      is_ahead: See `Journal`.
    """

    is_ahead = False

    def __init__(self, view: HistoryView, error: StoreError) -> None:
        self.view = view
        self._error = error

    async def record(
        self, messages: Sequence[Message], open_turn: OpenTurn | None = None, *, last: bool = False
    ) -> None:
        """Say why nothing is stored; see `Journal.record`."""
        raise self._error


class OpenSessions:
    """Opens sessions for runs, one run at a time for each, and remembers their history between them.

    `forget` is to be called when a session's actor passes away; so what is remembered is bounded by the actors that live.

    Attributes:
      unsaved: What was taken in without being stored.
    """

    def __init__(
        self,
        store: SessionStore,
        unsaved: Unsaved,
        count: Callable[[], Awaitable[TextCounter]],
        *,
        writes_after_turn: bool = True,
    ) -> None:
        self._store = store
        self._writes_after_turn = writes_after_turn
        self.unsaved = unsaved
        self._count = count
        self._views: dict[str, HistoryView] = {}

    def __len__(self) -> int:
        """How many sessions are remembered."""
        return len(self._views)

    def open(self, key: str) -> AbstractAsyncContextManager[OpenSession]:
        """Own a session for the length of a block. It is read only if it changed since it was last open here.

        Raises:
          StoreError: It cannot be read.
        """
        return _Opening(self, key)

    def open_if_possible(
        self, key: str, ahead: Ahead | None = None
    ) -> AbstractAsyncContextManager[OpenSession | SessionOutOfReach]:
        """As `open`, but if the store fails to give the session, the turn goes on without one, with what history there is.

        Args:
          key: The session.
          ahead: What the turn will record first. It is stored with the lease if nothing came between; `OpenSession.is_ahead`
            tells.
        """
        return _OpeningIfPossible(self, key, ahead)

    def known(self, key: str) -> HistoryView | None:
        """The history of a session that no run has open, if it is remembered. Not to be changed."""
        return self._views.get(key)

    @asynccontextmanager
    async def peek(self, key: str) -> AsyncIterator[HistoryView]:
        """The history as a model is shown it, for the block of a run that leaves no trace.

        Raises:
          StoreError: It cannot be read.
        """
        yield await self._peeked(key)

    async def record(self, key: str) -> SessionRecord:
        """The whole session with what is pending, as the next run will find it; an empty one if there is none."""
        record = await read_soon(self._store, key)
        if record is None:
            now = datetime.now(UTC)
            record = SessionRecord(key, _NOWHERE, (), {}, now, now)
        pending = await self._pending(key)
        if pending is _NOTHING:
            return record
        metadata = {**record.metadata, **(pending.metadata or {})}
        return replace(
            record,
            messages=(*record.messages, *pending.messages),
            metadata={name: entry for name, entry in metadata.items() if entry is not None},
        )

    async def metadata(self, key: str) -> Mapping[str, Any]:
        """The session's metadata as it is stored; empty if there is no such session."""
        record = await read_soon(self._store, key, last=0)
        return {} if record is None else record.metadata

    def forget(self, key: str) -> None:
        """Remember nothing of the session."""
        self._views.pop(key, None)

    async def _peeked(self, key: str) -> HistoryView:
        record = await read_soon(self._store, key, covered=0)
        pending = await self._pending(key)
        view = await self._view_of(record, _NOWHERE)
        return view.extended(pending.messages) if pending.messages else view

    @asynccontextmanager
    async def given(self, messages: Sequence[Message]) -> AsyncIterator[HistoryView]:
        """A history that the caller has, for the block of a run that leaves no trace."""
        count = await self._count()
        await count_shown_ahead(messages, count)
        yield HistoryView(_NOWHERE, messages, None, count)

    async def _last_known(self, key: str) -> HistoryView:
        """The history as it can be had of a store that fails: perhaps it can be read; if not, what is remembered."""
        try:
            return await self._peeked(key)
        except StoreError:
            view = self._views.get(key) or HistoryView(_NOWHERE, (), None)
            pending = await self._pending(key)
            return view.extended(pending.messages)

    async def _view_of(self, record: SessionRecord | None, position: Position) -> HistoryView:
        count = await self._count()
        if record is None:
            return HistoryView(position, (), None, count)
        await count_shown_ahead(record.messages, count)
        return HistoryView(record.position, record.messages, record.compaction, count)

    async def _pending(self, key: str) -> Pending:
        if key not in self.unsaved:
            return _NOTHING
        if not self._store.blocks:
            return self.unsaved.get(key) or _NOTHING
        pending = await trio.to_thread.run_sync(self.unsaved.get, key)  # somebody may be saving it
        return pending or _NOTHING


class _Block:
    """The block in which a session is open. A class, for each turn has one, and a generator would cost as much as the lease."""

    __slots__ = ("_ahead", "_key", "_session", "_sessions")

    def __init__(self, sessions: OpenSessions, key: str, ahead: Ahead | None = None) -> None:
        self._sessions = sessions
        self._key = key
        self._ahead = ahead
        self._session: OpenSession | None = None

    async def _open(self) -> OpenSession:
        sessions, key = self._sessions, self._key
        view = sessions._views.get(key)
        known = None if view is None else view.position
        ahead, messages = self._ahead, list[Message]()
        if ahead is not None and ahead.position == known and key not in sessions.unsaved:
            messages.append(ahead.message)
        run = CURRENT_RUN.get()
        if run is not None and run.outer is not None:
            await refuse_open_around(run, sessions._store)
        leased = await sessions._store.acquire_lease(
            key, covered=0, unless_at=known, messages=messages
        )
        try:
            sessions._views.pop(key, None)
            if view is None or (known != leased.position and not leased.appended):
                # What went along is not in the view until it is recorded.
                stands = (
                    Position(leased.position.epoch, 0, 0) if leased.appended else leased.position
                )
                view = await sessions._view_of(leased.record, stands)
            # What was taken in while the message went along is said after it: the next turn stores that.
            pending = _NOTHING if leased.appended else await sessions._pending(key)
        except BaseException:
            # Shielded, and bounded.
            await release_lease(sessions._store, leased.lease)  # noqa: ASYNC102
            raise
        if run is not None:
            run.opened = sessions._store
        slip = leased.slips.get(OPEN_TURN)
        self._session = OpenSession(
            sessions._store,
            leased.lease,
            view,
            sessions.unsaved,
            pending,
            slip,
            writes_after_turn=sessions._writes_after_turn,
            ahead=leased.position if leased.appended else None,
        )
        return self._session

    async def __aexit__(self, *_raised: object) -> None:
        session = self._session
        if session is not None:
            self._sessions._views[self._key] = session.view
            run = CURRENT_RUN.get()
            if run is not None:
                run.opened = None
            await session.aclose()  # noqa: ASYNC102 - shielded inside, and bounded


class _Opening(_Block):
    """The block of `OpenSessions.open`."""

    __slots__ = ()

    async def __aenter__(self) -> OpenSession:
        return await self._open()


class _OpeningIfPossible(_Block):
    """The block of `OpenSessions.open_if_possible`."""

    __slots__ = ()

    async def __aenter__(self) -> OpenSession | SessionOutOfReach:
        try:
            return await self._open()
        except StoreError as error:
            return SessionOutOfReach(await self._sessions._last_known(self._key), error)
