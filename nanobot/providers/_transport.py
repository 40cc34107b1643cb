"""The connection pool as a transport of httpx, for who has an `httpx.AsyncClient`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import trio

from ._exchange import Exchange, ExchangeLimits
from ._pool import ConnectionPool
from ._request_head import RequestHead

__all__ = ["PoolTransport"]


class PoolTransport(ConnectionPool, httpx.AsyncBaseTransport):
    """Use it under `httpx.AsyncClient(transport=...)`.

    It honours the `timeout` extension of a request (`connect`, `write` and `read`, in seconds or None). A request's body is
    sent whole: a generator is read to its end first.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `exchange`."""
        body = await request.aread()
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        head = RequestHead(
            request.method,
            request.url,
            (
                (name.lower(), value)
                for name, value in request.headers.raw
                if name.lower() not in (b"content-length", b"transfer-encoding")
            ),
        )
        limits = ExchangeLimits(
            timeouts.get("connect"), timeouts.get("write"), timeouts.get("read")
        )
        exchange = await self.exchange(head, body, limits)
        return httpx.Response(
            exchange.head.status,
            headers=exchange.head.headers,
            stream=_Body(exchange, timeouts.get("read")),
            extensions={
                "http_version": b"HTTP/" + exchange.head.http_version.encode("ascii"),
                "reason_phrase": exchange.head.reason.encode("latin-1"),
            },
        )


class _Body(httpx.AsyncByteStream):
    """The body of a response; each item is what one network read brought."""

    def __init__(self, exchange: Exchange, limit_s: float | None) -> None:
        self._exchange = exchange
        self._limit_s = limit_s

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self  # a class and not an async generator: nothing is left suspended when a reader stops early

    async def __anext__(self) -> bytes:
        received = b""
        with trio.move_on_after(float("inf") if self._limit_s is None else self._limit_s) as scope:
            received = await self._exchange.read()
        if scope.cancelled_caught:
            raise httpx.ReadTimeout(f"the server was silent for {self._limit_s:g} s")
        if not received:
            raise StopAsyncIteration
        return received

    async def aclose(self) -> None:
        self._exchange.discard()
