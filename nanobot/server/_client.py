"""The client of one request, as far as it can be heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import trio

from ._api_error import ApiError
from ._limits import BODY_WITHIN_S, MAX_BODIES_BYTES, MAX_BODY_BYTES

__all__ = ["BodyBudget", "Client", "ClientGone", "Receive"]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

_DISCARD_WITHIN_S = 5.0


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


class BodyBudget:
    """The memory that all bodies together may take."""

    def __init__(self, limit_bytes: int = MAX_BODIES_BYTES) -> None:
        self._left = limit_bytes

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return self._left

    def take(self, count: int) -> None:
        """Take so many bytes, to be given back with `give_back`.

        Raises:
          ApiError: 429; nothing was taken.
        """
        if count > self._left:
            raise ApiError(
                429,
                "The server is reading too many large requests. Try again later.",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        self._left -= count

    def give_back(self, count: int) -> None:
        """The reverse of `take`."""
        self._left += count


class Client:
    """Reads a request's body, then listens for the client's leaving. One task at a time may do either.

    Use it as a context manager: it holds its part of the budget as long as its request is worked on.
    """

    def __init__(self, receive: Receive, budget: BodyBudget) -> None:
        self._receive = receive
        self._budget = budget
        self._taken = 0
        self._ended = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0

    async def read_body(
        self, *, limit_bytes: int = MAX_BODY_BYTES, within_s: float = BODY_WITHIN_S
    ) -> bytearray:
        """The whole body.

        Raises:
          ApiError: 413 if it is too large, 408 if it is too slow, 429 if too much is being read already.
          ClientGone: The client left before its end.
        """
        body = bytearray()
        with trio.move_on_after(within_s) as limit:
            while not self._ended:
                piece = await self._next()
                if len(body) + len(piece) > limit_bytes:
                    await self.discard_body()
                    raise ApiError(
                        413,
                        f"A request may have {limit_bytes // 1024**2} MB at most.",
                        code="request_too_large",
                    )
                self._budget.take(len(piece))
                self._taken += len(piece)
                body += piece
        if limit.cancelled_caught:
            raise ApiError(
                408,
                f"The request did not arrive within {within_s:g} s.",
                code="request_too_slow",
                headers={"connection": "close"},
            )
        return body

    async def discard_body(self, limit_bytes: int = 2 * MAX_BODY_BYTES) -> None:
        """Read on, for a while, and keep nothing: many clients read no answer before they have sent their request.

        Raises:
          ClientGone: The client left.
        """
        left = limit_bytes
        with trio.move_on_after(_DISCARD_WITHIN_S):
            while not self._ended and left > 0:
                left -= len(await self._next())

    async def wait_gone(self) -> None:
        """Return when the client has closed its connection. To be called when the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body
