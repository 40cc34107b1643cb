"""What a session has to send, kept for a transport that may be slow."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Self

import anyio
from mcp.shared.message import SessionMessage

from actors import TrioNotify

__all__ = ["Outbox"]

_MOST: Final = 1000
"""Messages that may wait. A server that takes none of so many has stopped reading: every run in flight has a few, and
what is beyond that are answers to its own requests."""


class Outbox:
    """The write stream of a session. Sending never waits: so neither does a cancelled call, which has to send one more
    message and is shielded while it does.

    `overflowed` is set when nobody took what was sent; the transport is expected to end then.
    """

    def __init__(self) -> None:
        self._waiting: deque[SessionMessage] = deque()
        self._notify = TrioNotify()
        self._closed = False
        self.overflowed = False

    async def send(self, item: SessionMessage, /) -> None:
        """Take a message.

        Raises:
          anyio.BrokenResourceError: Too many are waiting.
          anyio.ClosedResourceError: The outbox was closed.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        if len(self._waiting) >= _MOST:
            self.overflowed = True
            self._notify.notify()
            raise anyio.BrokenResourceError
        self._waiting.append(item)
        self._notify.notify()

    async def next(self) -> SessionMessage | None:
        """The next message, for the one task that carries them out; None when there will be no more."""
        while not self._waiting and not self._closed and not self.overflowed:
            await self._notify.notified()
        return self._waiting.popleft() if self._waiting and not self.overflowed else None

    async def aclose(self) -> None:
        """Take no more messages."""
        self._closed = True
        self._notify.notify()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
