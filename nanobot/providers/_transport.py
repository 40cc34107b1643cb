"""The connection pool as a transport of httpx, for who has an `httpx.AsyncClient`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import httpx
import trio

from ._address import DEFAULT_PORTS, Address
from ._exchange import Exchange, ExchangeLimits
from ._http1 import RequestError
from ._pool import ConnectionPool
from ._request_head import RequestHead
from ._transport_errors import (
    ConnectionBroken,
    NotConnected,
    NotHTTP,
    ProxyRefused,
    TransportError,
    TransportTimeout,
)

__all__ = ["PoolTransport"]

_ERRORS: Final[tuple[tuple[type[TransportError], type[httpx.TransportError]], ...]] = (
    (ProxyRefused, httpx.ProxyError),
    (NotConnected, httpx.ConnectError),
    (ConnectionBroken, httpx.ReadError),
    (NotHTTP, httpx.RemoteProtocolError),
    (TransportError, httpx.TransportError),
)
_TIMEOUTS: Final = {
    "connect": httpx.ConnectTimeout,
    "write": httpx.WriteTimeout,
    "read": httpx.ReadTimeout,
}


class PoolTransport(ConnectionPool, httpx.AsyncBaseTransport):
    """Use it under `httpx.AsyncClient(transport=...)`.

    It honours the `timeout` extension of a request (`connect`, `write` and `read`, in seconds or None). A request's body is
    sent whole: a generator is read to its end first. Errors are httpx's.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `exchange`."""
        body = await request.aread()
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        headers = (
            (name.lower(), value)
            for name, value in request.headers.raw
            if name.lower() not in (b"content-length", b"transfer-encoding")
        )
        limits = ExchangeLimits(
            timeouts.get("connect"), timeouts.get("write"), timeouts.get("read")
        )
        with _as_httpx_says():
            head = RequestHead(request.method, _address(request.url), headers)
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
        deadline = math.inf if self._limit_s is None else trio.current_time() + self._limit_s
        try:
            with _as_httpx_says():
                received = await self._exchange.read(deadline)
        except httpx.ReadTimeout:
            raise httpx.ReadTimeout(f"the server was silent for {self._limit_s:g} s") from None
        if not received:
            raise StopAsyncIteration
        return received

    async def aclose(self) -> None:
        self._exchange.discard()


@contextmanager
def _as_httpx_says() -> Iterator[None]:
    try:
        yield
    except RequestError as exc:
        raise httpx.LocalProtocolError(str(exc)) from exc
    except TransportTimeout as exc:
        raise _TIMEOUTS[exc.phase](str(exc)) from exc
    except TransportError as exc:
        kind = next(theirs for ours, theirs in _ERRORS if isinstance(exc, ours))
        raise kind(str(exc)) from exc


def _address(url: httpx.URL) -> Address:
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise httpx.UnsupportedProtocol(
            f"only http:// and https:// URLs can be requested, not {str(url)[:200]!r}"
        )
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return Address(url.scheme, url.raw_host.decode("ascii"), url.port, path, query)
