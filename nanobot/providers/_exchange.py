"""One request and the response to it, on a connection of a pool."""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio
from msgspec import Struct

from ._address import Origin
from ._connection import HTTPConnection
from ._http1 import ResponseHead
from ._transport_errors import ConnectionBroken, NotHTTP, Phase, TransportClosed, TransportError

__all__ = ["NO_LIMITS", "Exchange", "ExchangeLimits", "Keeper"]


class ExchangeLimits(Struct, frozen=True):
    """How long an exchange may take up to the head of its response: connecting, sending, and waiting for it, in seconds; and
    the Trio time by which it must be there. None and infinity: no bound. Waiting for a place in the pool is not bounded."""

    connect_s: float | None = None
    write_s: float | None = None
    read_s: float | None = None
    deadline: float = math.inf


NO_LIMITS: Final = ExchangeLimits()


class Keeper(Protocol):
    """Whose connections exchanges use.

    Attributes:
      closed: Whether it keeps none any more.
    """

    closed: bool

    def take_back(self, exchange: Exchange, connection: HTTPConnection | None) -> None:
        """Forget an exchange; keep its connection if one is handed over."""
        ...


class Exchange:
    """One request on its connection, then the response to it.

    Ends exactly once: at the end of the body the connection goes back to the pool; `discard`, an error or a
    cancellation before that closes it.

    Attributes:
      complete: Whether the body was read to its end.
      connection: None before there is one, and after the end.
      head: Status and headers of the response.
      origin: Whom it is with: scheme, host, port.
      phase: What it is doing, or was doing last, before the head of the response was there.
      scope: Bounds it until then.
      sent_at: The Trio time at which its connection was there and sending began.
    """

    __slots__ = (
        "_begun",
        "_ended",
        "_pool",
        "complete",
        "connection",
        "head",
        "origin",
        "phase",
        "scope",
        "sent_at",
    )

    head: ResponseHead

    def __init__(self, pool: Keeper, origin: Origin) -> None:
        self._pool = pool
        self._ended = False
        self._begun = False
        self.complete = False
        self.origin = origin
        self.phase: Phase = "read"
        self.connection: HTTPConnection | None = None
        self.scope: trio.CancelScope | None = None
        self.sent_at = 0.0

    def bounded(self, limits: ExchangeLimits) -> trio.CancelScope:
        """The scope of everything up to the head of the response, bounded for a connection that is there already."""
        self.scope = trio.CancelScope(deadline=_deadline(limits.read_s, limits))
        return self.scope

    def enter(self, phase: Phase, limit_s: float | None, limits: ExchangeLimits) -> None:
        """Do the next thing, for so long."""
        changes = self.phase != phase
        self.phase = phase
        if changes and self.scope is not None:
            self.scope.deadline = _deadline(limit_s, limits)

    def read_nowait(self) -> bytes:
        """Return what of the body came with the head, the first time; b"" if nothing did, and later.

        Raises:
          NotHTTP: What came is not HTTP; the connection is closed.
        """
        connection = self.connection
        if self._begun or connection is None:
            return b""
        self._begun = True
        try:
            received = connection.body_at_hand()
        except NotHTTP:
            self.discard()
            raise
        if connection.complete:
            self._give_back(connection)
        return received

    async def read(self) -> bytes:
        """Return what one network read brought of the body, or b"" at its end.

        Raises:
          TransportClosed: The pool was closed.
          ConnectionBroken: The connection broke, or `discard` was called.
          NotHTTP: The server hung up halfway, or what it sent is not HTTP.

        Cancelled, it closes the connection.
        """
        if received := self.read_nowait():
            return received
        connection = self.connection
        if connection is None:
            if self.complete:
                return b""
            if self._pool.closed:
                raise TransportClosed
            raise ConnectionBroken("the response was closed before its end")
        try:
            received = await connection.receive_body()
        except TransportError as exc:
            self.discard()
            if self._pool.closed:
                raise TransportClosed from exc
            raise
        except BaseException:
            self.discard()
            raise
        if connection.complete:
            self._give_back(connection)
        return received

    def discard(self) -> None:
        """Close the connection, or stop connecting; nothing happens if the body was read to its end. Idempotent."""
        if self._ended:
            return
        self._ended = True
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        elif self.scope is not None:
            self.scope.cancel()
        self._pool.take_back(self, None)

    def _give_back(self, connection: HTTPConnection) -> None:
        self.complete = True
        if self._ended:
            return
        self._ended = True
        self.connection = None
        if not self._pool.closed and connection.start_next_exchange():
            self._pool.take_back(self, connection)
        else:
            connection.close()
            self._pool.take_back(self, None)


def _deadline(limit_s: float | None, limits: ExchangeLimits) -> float:
    if limit_s is None:
        return limits.deadline
    return min(limits.deadline, trio.current_time() + limit_s)
