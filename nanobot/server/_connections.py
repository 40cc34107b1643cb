"""Connections of clients: taken in, spoken to by hypercorn, and ended for certain."""

from __future__ import annotations

import logging
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from ._limits import IDLE_CONNECTION_S, WRITE_WITHIN_S

__all__ = ["Connections"]

_log = logging.getLogger("nanobot.server")


class Connections:
    """Serves an ASGI application over HTTP/1.1, with hypercorn's Trio protocol.

    Hypercorn's own `serve` is not used, for three things that it cannot do: a client that does not read is cut off after
    a while, not waited for (hypercorn shields its writes from cancellation, also while it shuts down); a bug that one
    connection meets does not end all others; connections that are left at the end are closed, come what may.

    Args:
      app: The application.
      write_within_s: Seconds that a client may take to accept the next piece of an answer.
      idle_s: Seconds that a connection may be without a complete request head.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        write_within_s: float = WRITE_WITHIN_S,
        idle_s: float = IDLE_CONNECTION_S,
    ) -> None:
        self._config = Config()
        self._config.errorlog = _log
        self._config.keep_alive_timeout = idle_s
        self._config.keep_alive_max_requests = (
            1_000_000_000  # nothing grows with the number of requests
        )
        self._config.include_server_header = False
        self._app: Any = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # Starlette's types are not hypercorn's
        self._context = WorkerContext(None)
        self._write_within_s = write_within_s
        self._open: set[_ClientStream] = set()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    async def serve(self, listeners: list[trio.SocketListener], nursery: trio.Nursery) -> None:
        """Take connections until this is cancelled, then close the listeners. Connections live in `nursery`."""
        await trio.serve_listeners(self._speak, listeners, handler_nursery=nursery)

    async def stop_idle(self) -> None:
        """Close each connection as soon as no request is on it."""
        await self._context.terminated.set()

    def close_all(self) -> None:
        """Close every connection, whatever is on it."""
        for stream in tuple(self._open):
            stream.abort()

    async def _speak(self, stream: trio.SocketStream) -> None:
        client = _ClientStream(stream, self._write_within_s)
        self._open.add(client)
        try:
            await TCPServer(self._app, self._config, self._context, {}, client).run()  # type: ignore[arg-type]  # as above
        except Exception:  # noqa: BLE001 - one client's connection, whatever went wrong with it, is not the others'
            _log.exception("a connection failed")
        finally:
            self._open.discard(client)
            client.abort()


class _ClientStream:
    """A socket stream whose writes do not wait for ever. Has what hypercorn uses of `trio.SocketStream`."""

    def __init__(self, stream: trio.SocketStream, write_within_s: float) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._write_within_s = write_within_s

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._write_within_s) as limit:
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
