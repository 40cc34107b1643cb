"""What everybody needs from the place where sessions are kept."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import trio

from nanobot.errors import UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased
from ._record import Compaction, Position, SessionRecord
from ._search import SessionSearch
from ._snapshot import SessionInfo

__all__ = [
    "Durability",
    "PlacedStore",
    "SearchableStore",
    "SessionExists",
    "SessionStore",
    "keep_the_same",
    "read_soon",
]

Durability: TypeAlias = Literal["commit", "fast"]
"""What a write that has returned survives: a power cut too, or the death of the process only."""


class SessionExists(UsageError):
    """There is a session where a new one was to be made; delete it first, or choose another key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"session {key!r:.200} exists; delete it first, or choose another key")
        self.key = key


class SessionStore(Protocol):
    """Keeps sessions: append-only lists of messages, each with metadata, named by any string.

    There are two doors. Turns write through a *lease*, so that one session has one writer at a time, in one process or in
    many; these methods are async and belong to a Trio run. Looking and administration are plain functions, for any
    thread, any event loop or none: they never wait for a turn. `clear`, `replace` and `delete` win over the turn that
    holds the lease, whose next write raises `SessionGone`.

    Each write is atomic, and durable on return as far as the store promises durability. Cancellation either strikes
    before a write has happened, or the write returns. All methods raise `StoreError` if the store cannot do its work.
    """

    @property
    def blocks(self) -> bool:
        """Whether the plain functions wait for a disk or a network. An event loop calls them in a thread then."""
        ...

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
        """Wait until the session is free, in order of arrival, and own it; creates nothing that others can see.

        Args:
          key: The session, which need not exist.
          last: As for `read`.
          covered: As for `read`.
          unless_at: Where the caller's own copy stands. If the session stands there still, it is not read again.
          messages: To be appended with the lease if the session stands at `unless_at` still and has no slips, or, where that
            is None, if there is no such session yet; `Leased.appended` tells whether that was so.

        A cancelled wait leaves the queue. Cancelled with messages, it has written nothing, or returns.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the session to whoever waits for it. Without effect if the lease has ended already."""
        ...

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
        """Add to the end of a session, creating it if needed, and return where it stands now. All or nothing.

        Without anything to add it writes nothing, and creates nothing. Cancelled, it has written nothing; where it is too late
        for that, it returns as if it had not been cancelled.

        Args:
          lease: The right to do it.
          messages: Taken as they are: legality is the caller's.
          metadata: Entries put over the session's own; None as an entry removes it.
          compaction: Replaces the one before.
          slips: Put beside the session by their names, over those of the same names; None takes one away. A slip is a few
            bytes that are no part of the history: what a turn leaves for whoever goes on with it. They do not move the
            position, and go with the session when it is cleared, replaced or deleted.
          release: Give the lease back with the same write.

        Raises:
          SessionGone: The session was cleared, replaced or deleted since the lease was given.
          SessionFenced: The lease has ended. For this process it counts until it is given back: another process may own the
            session by now, but of those who wait here nobody overlaps with a turn that does not know yet that it lost.
          UsageError: The metadata is not JSON, the summary covers messages that do not exist, or there is a slip for a
            session that would still not exist.
        """
        ...

    async def aclose(self) -> None:
        """Like `close`, without blocking the event loop."""
        ...

    # --- everybody, from anywhere

    def read(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """Read a session as it stands, or return None if there is none; creates nothing. Needs no lease.

        Args:
          key: The session.
          last: At most so many of its last messages; None is all. What is left out is not read.
          covered: At most so many of the messages that the summary covers already; None is all.

        Raises:
          UsageError: A count is negative.
        """
        ...

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """Return one row per session, the most recently written first, at most `limit` of them.

        Raises:
          UsageError: The limit is negative.
        """
        ...

    def list_slips(self, name: str, *, key: str | None = None) -> tuple[tuple[str, bytes], ...]:
        """Return the slips of one name, each after the key of its session: of all sessions, or of one. Needs no lease."""
        ...

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        """Put a slip in the place of `old`, and return True; or do nothing and return False if that is not what is there.

        Needs no lease: whoever has one sees what is there when the lease is given, and what is changed meanwhile here loses
        against the next slip that is written with the lease.
        """
        ...

    def extend(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Do what `append` does, if nobody holds the session's lease; else write nothing and return False.

        Raises:
          UsageError: The metadata is not JSON.
        """
        ...

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
        """Make the session consist of exactly this, whatever it was, and return where it stands. Needs no lease.

        Args:
          key: The session.
          messages: Taken as they are.
          metadata: All of it.
          created_at: Timezone-aware; None is now.
          compaction: The summary that stands for the start of `messages`.
          slips: All of them; see `append`.
          only_new: Refuse if there is such a session.

        Raises:
          SessionExists: There is one, and `only_new` was asked for.
          UsageError: The metadata is not JSON, or the summary covers messages that do not exist.
        """
        ...

    def clear(self, key: str) -> SessionRecord | None:
        """Remove messages and summary, keep the metadata, and return what is left; None if there is no such session."""
        ...

    def delete(self, key: str) -> bool:
        """Remove the session, and return whether there was one."""
        ...

    def flush(self) -> int:
        """Make everything written so far as durable as the store can, and return how many sessions that concerned:
        those written since the last time.
        """
        ...

    def close(self) -> None:
        """Flush, end whatever runs in the background, and refuse further writes; reading goes on. Idempotent."""
        ...


class SearchableStore(SessionStore, SessionSearch, Protocol):
    """A store that can be searched, as those are that nanobot brings along."""


@runtime_checkable
class PlacedStore(Protocol):
    """What a store offers beside sessions if there may be two of it that keep the same ones."""

    @property
    def place(self) -> Hashable:
        """Where the sessions are; the same for two stores that keep the same ones. May block."""
        ...


def keep_the_same(one: SessionStore, other: SessionStore) -> bool:
    """Whether two stores are known to keep the same sessions. May block."""
    if one is other:
        return True
    return (
        isinstance(one, PlacedStore) and isinstance(other, PlacedStore) and one.place == other.place
    )


async def read_soon(
    store: SessionStore, key: str, *, last: int | None = None, covered: int | None = None
) -> SessionRecord | None:
    """Read a session from within a Trio run, in a thread only if the store blocks. A cancelled read leaves nothing."""
    if not store.blocks:
        await trio.lowlevel.checkpoint_if_cancelled()
        return store.read(key, last=last, covered=covered)
    return await trio.to_thread.run_sync(
        lambda: store.read(key, last=last, covered=covered), abandon_on_cancel=True
    )
