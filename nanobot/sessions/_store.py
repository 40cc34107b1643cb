"""What the runtime needs from the place where sessions are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from nanobot.messages import Message

from ._lease import Lease, Leased
from ._record import Compaction, Position, SessionRecord
from ._snapshot import SessionInfo

__all__ = ["SessionStore"]


class SessionStore(Protocol):
    """Keeps sessions: append-only lists of messages, each with metadata, named by any string.

    Turns write through a lease, so that one session has one writer at a time, in one process or in many. `clear`,
    `replace` and `delete` need none: they win over the turn that holds it, whose next write raises `SessionGone`.

    Each write is atomic, and durable on return as far as the store promises durability. Cancellation either strikes
    before a write has happened, or the write returns. All methods raise `StoreError` if the store cannot do its work.
    """

    async def acquire_lease(
        self,
        key: str,
        *,
        last: int | None = None,
        covered: int | None = None,
        unless_at: Position | None = None,
    ) -> Leased:
        """Wait until the session is free, in order of arrival, and own it; creates nothing that others can see.

        Args:
          key: The session, which need not exist.
          last: As for `load`.
          covered: As for `load`.
          unless_at: Where the caller's own copy stands. If the session stands there still, it is not read again.

        A cancelled wait leaves the queue.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the session to whoever waits for it. Without effect if the lease has ended already."""
        ...

    async def load(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """Read a session, or return None if there is none; creates nothing. Needs no lease.

        Args:
          key: The session.
          last: At most so many of its last messages; None is all. What is left out is not read.
          covered: At most so many of the messages that the summary covers already; None is all.

        Raises:
          UsageError: A count is negative.
        """
        ...

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        release: bool = False,
    ) -> Position:
        """Add to the end of a session, creating it if needed, and return where it stands now. All or nothing.

        Without anything to add it writes nothing, and creates nothing.

        Args:
          lease: The right to do it.
          messages: Taken as they are: legality is the caller's.
          metadata: Entries put over the session's own; None as an entry removes it.
          compaction: Replaces the one before.
          release: Give the lease back with the same write.

        Raises:
          SessionGone: The session was cleared, replaced or deleted since the lease was given.
          SessionFenced: The lease has ended.
          UsageError: The metadata is not JSON, or the summary covers messages that do not exist.
        """
        ...

    async def replace(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> Position:
        """Make the session consist of exactly this, whatever it was, and return where it stands. Needs no lease.

        Raises:
          UsageError: The metadata is not JSON.
        """
        ...

    async def clear(self, key: str) -> SessionRecord | None:
        """Remove messages and summary, keep the metadata, and return what is left; None if there is no such session."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove the session, and return whether there was one."""
        ...

    async def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """Return one row per session, the most recently written first, at most `limit` of them."""
        ...

    async def flush(self) -> int:
        """Make everything written so far as durable as the store can, and return how many sessions that concerned."""
        ...

    async def aclose(self) -> None:
        """Flush, end whatever runs in the background, and refuse further writes; reading goes on. Idempotent."""
        ...
