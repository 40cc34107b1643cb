"""Connections to the HTTP port: spoken to by hypercorn, one by one, so that none can end the others."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

__all__ = ["HttpDoor"]

_log = logging.getLogger("nanobot.gateway")

_IDLE_S: Final = 30.0
"""How long a connection may be without a complete request head: browsers keep theirs, and open them anew."""

_WRITE_WITHIN_S: Final = 20.0
"""How long a client may take to accept the next piece of a file."""

_MAX_CONNECTIONS: Final = 1_000
"""Past it the oldest is closed, so that many that say nothing on purpose cannot keep out one that means it."""


class HttpDoor:
    """Serves an ASGI application over HTTP/1.1.

    Hypercorn's own `serve` is not used: a connection that makes it fail, such as a WebSocket's handshake with something
    behind it that is none, would end the gateway; and it waits without end for a client that does not read.
    """

    def __init__(self, app: ASGIApp) -> None:
        config = Config()
        config.accesslog = None
        config.errorlog = _log
        config.loglevel = "WARNING"
        config.keep_alive_timeout = _IDLE_S
        config.include_server_header = False
        self._config = config
        self._app: Any = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # Starlette's types are not hypercorn's
        self._context = WorkerContext(None)
        self._open: OrderedDict[_Patient, None] = OrderedDict()

    async def take(self, stream: trio.SocketStream) -> None:
        """Serve one TCP connection, whatever comes over it."""
        patient = _Patient(stream)
        self._open[patient] = None
        if len(self._open) > _MAX_CONNECTIONS:
            next(iter(self._open)).abort()
        try:
            await TCPServer(self._app, self._config, self._context, {}, patient).run()  # type: ignore[arg-type]  # it has what is used
        except Exception:  # noqa: BLE001 - one client's connection, whatever went wrong with it, is not the others'
            _log.debug("a connection ended with an error", exc_info=True)
        finally:
            del self._open[patient]
            patient.abort()


class _Patient:
    """A socket stream whose writes do not wait for ever. Has what hypercorn uses of `trio.SocketStream`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self._stream = stream

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(_WRITE_WITHIN_S) as limit:
            await self._stream.send_all(data)
        if limit.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Close the socket at once; whoever waits for it gets a `ClosedResourceError`."""
        self.socket.close()
