"""The WebSocket side: listeners, handshakes and their limits."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from ._admission import Admission, Handshake, Refusal, read_handshake
from ._wire import LONG_MESSAGES, Wire

__all__ = ["WebSocketDoor"]

_log = logging.getLogger("nanobot.gateway")

_HANDSHAKE_S: Final = 10.0
"""How long a client may take to say what it wants."""

_MAX_HANDSHAKES: Final = 4_000
"""Connections that have not said what they want. Past it the oldest is closed, so that many of them, which say nothing on
purpose, cannot keep out one that means it."""

Serve: TypeAlias = Callable[[WebSocketConnection, Wire, Handshake], Awaitable[None]]


class WebSocketDoor:
    """Lets clients in.

    Args:
      admission: Who may come in.
      max_connections: How many are in at once; the others get 503.
      max_frame_chars: The longest frame of a client; past it the connection is closed with 1009.
      serve: Called for each client that is in.

    Attributes:
      streams: TCP connections of which something is still alive here, whatever they have said.
      connections: Those that were let in.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        max_connections: int,
        max_frame_chars: int,
        serve: Serve,
    ) -> None:
        self._admission = admission
        self._max_connections = max_connections
        self._max_frame_chars = max_frame_chars
        self._serve = serve
        self._places = trio.CapacityLimiter(LONG_MESSAGES)
        self._handshakes: OrderedDict[trio.CancelScope, None] = OrderedDict()
        self.connections = 0
        self.streams = 0

    async def take(self, stream: trio.SocketStream) -> None:
        """Serve one TCP connection, whatever comes over it."""
        wire = Wire(stream, self._places)
        self.streams += 1
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._welcome(wire, nursery)
                finally:
                    nursery.cancel_scope.cancel()
        except* Exception:  # noqa: BLE001 - the WebSocket library raises on bytes that it did not expect
            _log.debug("a connection ended with an error", exc_info=True)
        finally:
            self.streams -= 1
            await trio.aclose_forcefully(wire)

    async def _welcome(self, stream: Wire, nursery: trio.Nursery) -> None:
        request = await self._handshake(stream, nursery)
        if request is None:
            return
        host = request._event.host.encode(
            "latin-1", "replace"
        )  # the library hands out every header but this one
        handshake = read_handshake(request.path, [*request.headers, (b"host", host)])
        refusal = self._admission.refusal(handshake)
        if refusal is None and self.connections >= self._max_connections:
            refusal = Refusal(503, "too many connections")
        if refusal is not None:
            with trio.move_on_after(_HANDSHAKE_S):
                await request.reject(
                    refusal.status,
                    extra_headers=[(b"content-type", b"text/plain")],
                    body=refusal.detail.encode(),
                )
            return
        websocket = await request.accept()
        self.connections += 1
        try:
            await self._serve(websocket, stream, handshake)
        finally:
            self.connections -= 1

    async def _handshake(self, stream: Wire, nursery: trio.Nursery) -> WebSocketRequest | None:
        scope = trio.CancelScope(deadline=trio.current_time() + _HANDSHAKE_S)
        self._handshakes[scope] = None
        if len(self._handshakes) > _MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            oldest.cancel()
        try:
            with scope:
                return await wrap_server_stream(
                    nursery, stream, max_message_size=self._max_frame_chars
                )
        finally:
            del self._handshakes[scope]
        return None
