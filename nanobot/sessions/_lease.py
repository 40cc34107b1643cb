"""The right to write a session's next turn, and how a stale owner is told that it lost it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
from msgspec import Struct

from nanobot.errors import StoreError
from nanobot.messages import Message

from ._record import Position, SessionRecord

if TYPE_CHECKING:
    from ._store import SessionStore

__all__ = ["Lease", "Leased", "SessionFenced", "SessionGone", "open_lease", "release_lease"]

# Giving a lease back is shielded. A store that cannot be reached must not hold up a cancelled turn for longer than
# this; the lease then ends by itself, as it would if the process had died.
_RELEASE_TIMEOUT_S: Final = 5.0


class SessionGone(StoreError):
    """The session was cleared, replaced or deleted after the lease was given: what the turn writes is not wanted."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"session {key!r:.200} was cleared or deleted while a turn was writing to it"
        )
        self.key = key


class SessionFenced(StoreError):
    """The lease is no longer the session's: it was given back, or it expired and somebody else owns the session now."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the lease on session {key!r:.200} has ended; another turn may own it")
        self.key = key


class Lease(Struct, frozen=True, gc=False):
    """The exclusive right to append to one session. Every write carries it.

    Attributes:
      key: The session.
      token: Fencing token: grows with each lease that the store gives; a write with any but the latest fails.
      epoch: The session's life that it was given for; a write to another one fails.
    """

    key: str
    token: int
    epoch: int


class Leased(Struct, frozen=True):
    """A lease, and where its session stands.

    `record` is None if the session does not exist (`position.sequence` and `position.version` are 0 then), or if it is
    still where the caller said that its copy is. `slips` are those that lie beside the session, by name. `appended` tells
    whether the messages that came with the request were stored; the position is that behind them then.
    """

    lease: Lease
    position: Position
    record: SessionRecord | None
    slips: Mapping[str, bytes] = {}
    appended: bool = False


@asynccontextmanager
async def open_lease(
    store: SessionStore,
    key: str,
    *,
    last: int | None = None,
    covered: int | None = None,
    unless_at: Position | None = None,
    messages: Sequence[Message] = (),
) -> AsyncIterator[Leased]:
    """Hold a session's lease for the length of a block; the parameters are those of `SessionStore.acquire_lease`.

    The lease is given back on every way out, also when cancelled, within five seconds.
    """
    leased = await store.acquire_lease(
        key, last=last, covered=covered, unless_at=unless_at, messages=messages
    )
    try:
        yield leased
    finally:
        await release_lease(store, leased.lease)  # noqa: ASYNC102 - shielded, and bounded


async def release_lease(store: SessionStore, lease: Lease) -> None:
    """Give a lease back, whether or not the caller is cancelled, within five seconds."""
    with trio.move_on_after(_RELEASE_TIMEOUT_S, shield=True):
        await store.release_lease(lease)
