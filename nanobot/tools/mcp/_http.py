"""MCP over HTTP: the transports of the mcp package, bounded and watched."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio
import httpx2
import trio
from mcp.client._transport import ReadStream, TransportStreams, WriteStream
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from nanobot.config import McpServer

from ._outbox import Outbox
from ._session import ServerFailed, transport_of
from ._wire import Wire

__all__ = ["open_http"]

_CONNECT_S: Final = 10.0
_WRITE_S: Final = 30.0
"""Until a connection stands, and until a piece of a request is taken. Reading has no limit of its own: a stream of
announcements may be silent for days, and an answer is bounded by its call."""

_GOODBYE_S: Final = 0.4
"""How long the server may take to hear that the session ends (DELETE). A server that is gone does not hold us up."""

_LONGEST_EVENT: Final = 32 * 1024 * 1024
"""Bytes of one message in an event stream, as over pipes."""


@asynccontextmanager
async def open_http(
    server: McpServer, turned_down: Callable[[int, bool], None]
) -> AsyncIterator[Wire]:
    """Connect to a server for the length of a block. `turned_down` is told the HTTP status of each message that
    was not accepted, and whether it belonged to a session.

    Raises:
      Exception: From inside the block: the connection ended, or could not be made.
    """
    # In a thread: reading the certificates of the system takes 30 ms.
    client = await trio.to_thread.run_sync(_make_client, server.headers, turned_down)
    failure: Exception | None = None
    try:
        with trio.CancelScope() as closing:
            async with _transport(server, client) as (messages, write):
                outbox = Outbox()
                watched = _Watched(messages)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send, outbox, write)
                    nursery.start_soon(_watch, watched)
                    try:
                        yield Wire(watched, outbox)
                    except Exception as error:
                        failure = error
                        raise
                    finally:
                        closing.deadline = trio.current_time() + _GOODBYE_S
                        nursery.cancel_scope.cancel()
    except Exception:
        if failure is None:
            raise
    # Came it from the block, it is what went wrong; a goodbye that is cut short, or a request that is given up while the
    # transport closes, would else take its place.
    if failure is not None:
        raise failure


def _make_client(
    headers: Mapping[str, str], turned_down: Callable[[int, bool], None]
) -> httpx2.AsyncClient:
    async def look(response: httpx2.Response) -> None:
        request = response.request
        if response.status_code >= 400 and request.method == "POST":
            turned_down(response.status_code, "mcp-session-id" in request.headers)

    return httpx2.AsyncClient(
        headers=dict(headers),
        timeout=httpx2.Timeout(_WRITE_S, connect=_CONNECT_S, read=None),
        # Each call holds a connection until it is answered; what bounds them is how many runs there are. Idle ones are closed
        # well before servers do so, mostly after 5 s: a call that meets a closed one takes the whole session with it.
        limits=httpx2.Limits(
            max_connections=None, max_keepalive_connections=8, keepalive_expiry=2.0
        ),
        event_hooks={"response": [look]},
    )


@asynccontextmanager
async def _transport(
    server: McpServer, client: httpx2.AsyncClient
) -> AsyncIterator[TransportStreams]:
    def made(*_args: Any, **_options: Any) -> httpx2.AsyncClient:
        return client

    transport: AbstractAsyncContextManager[TransportStreams]
    if transport_of(server) == "sse":
        transport = sse_client(server.url, sse_read_timeout=math.inf, httpx_client_factory=made)
        async with transport as streams:  # closes the client
            yield streams
    else:
        async with client:
            transport = streamable_http_client(
                server.url, http_client=client, max_sse_event_size=_LONGEST_EVENT
            )
            async with transport as streams:
                yield streams


async def _send(outbox: Outbox, write: WriteStream[SessionMessage]) -> None:
    while (message := await outbox.next()) is not None:
        try:
            await write.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ServerFailed("it takes no more messages") from None
    if outbox.overflowed:
        raise ServerFailed("it does not take what it is sent")


class _Watched:
    """A read stream that tells when it has ended, which a session keeps to itself."""

    def __init__(self, messages: ReadStream[SessionMessage | Exception]) -> None:
        self._messages = messages
        self.ended = trio.Event()

    async def receive(self) -> SessionMessage | Exception:
        return await self._messages.receive()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            self.ended.set()
            raise

    async def aclose(self) -> None:
        await self._messages.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _watch(watched: _Watched) -> None:
    await watched.ended.wait()
    raise ServerFailed("it ended the connection")
