"""One request and the response to it, on a connection of a pool."""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio
from msgspec import Struct

from ._address import Origin
from ._connection import HTTPConnection
from ._deadlines import Deadlines
from ._http1 import ResponseHead
from ._transport_errors import (
    ConnectionBroken,
    NotHTTP,
    Phase,
    TransportClosed,
    TransportError,
    TransportTimeout,
)

__all__ = ["NO_LIMITS", "Exchange", "ExchangeLimits", "Keeper"]


class ExchangeLimits(Struct, frozen=True):
    """How long an exchange may take up to the head of its response: connecting, sending, and waiting for it, in seconds; and
    the Trio time by which it must be there. None and infinity: no bound. Waiting for a place in the pool is not bounded."""

    connect_s: float | None = None
    write_s: float | None = None
    read_s: float | None = None
    deadline: float = math.inf

    def until(self, limit_s: float | None, now: float) -> float:
        """The Trio time by which something must be done that may take so long from now."""
        return self.deadline if limit_s is None else min(self.deadline, now + limit_s)


NO_LIMITS: Final = ExchangeLimits()


class Keeper(Protocol):
    """Whose connections exchanges use.

    Attributes:
      closed: Whether it keeps none any more.
      deadlines: Those of the exchanges.
    """

    closed: bool
    deadlines: Deadlines

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
      deadline: The Trio time at which the connection is closed, because somebody has waited for it too long.
      expired: Whether it was.
      head: Status and headers of the response.
      origin: Whom it is with: scheme, host, port.
      phase: What it is doing, or was doing last, before the head of the response was there.
      scope: Bounds connecting.
      sent_at: The Trio time at which its connection was there and sending began.
    """

    __slots__ = (
        "_begun",
        "_ended",
        "_pool",
        "complete",
        "connection",
        "deadline",
        "expired",
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
        self.deadline = math.inf
        self.expired = False
        self.sent_at = 0.0

    def enter(self, phase: Phase, deadline: float) -> None:
        """Do the next thing on the connection, until then."""
        if self.expired:
            return  # in the phase before
        self.phase = phase
        self.deadline = deadline
        self._pool.deadlines.note(deadline)

    def expire(self) -> None:
        """Close the connection, because the deadline has passed: whoever waits for it is told."""
        self.deadline = math.inf
        self.expired = True
        if self.connection is not None:
            self.connection.close()

    def timed_out(self) -> TransportTimeout:
        """What is raised when a deadline has passed."""
        match self.phase:
            case "connect":
                host = self.origin[1].decode("ascii")
                message = f"no connection to {host} in time"
            case "write":
                message = "the server did not accept the request in time"
            case "read":
                message = "the server did not answer in time"
        return TransportTimeout(message, phase=self.phase)

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

    async def read(self, deadline: float = math.inf) -> bytes:
        """Return what one network read brought of the body, or b"" at its end.

        Raises:
          TransportTimeout: Nothing came until `deadline`, a Trio time; the connection is closed.
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
        self.deadline = deadline
        self._pool.deadlines.note(deadline)
        try:
            received = await connection.receive_body()
        except TransportError as exc:
            self.discard()
            if self._pool.closed:
                raise TransportClosed from exc
            if self.expired:
                raise self.timed_out() from None
            raise
        except BaseException:
            self.discard()
            raise
        self.deadline = math.inf  # nobody waits
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
        if not (self._pool.closed or self.expired) and connection.start_next_exchange():
            self._pool.take_back(self, connection)
        else:
            connection.close()
            self._pool.take_back(self, None)
