"""One socket that speaks HTTP/1.1 as a client.

h11 decides what may be sent and what was received; this file moves the bytes. Closing is synchronous, so that a
cancelled task can close its connection on the way out without another await. Trio only.

Errors are httpx's, because that is what whoever holds an `httpx.AsyncBaseTransport` expects.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterable
from typing import Final

import h11
import httpx
import trio
from msgspec import Struct

__all__ = ["HTTPConnection", "HTTPProxy", "open_connection"]

_READ_BYTES: Final = 64 * 1024
_ONE_WRITE_BYTES: Final = 64 * 1024
"""Up to here a body is copied behind its head to be sent with one system call; a larger one follows without the
copy."""

_CLOSE_BODY_WITHIN_S: Final = 5.0
"""How long a request body that is somebody's generator may take to clean up after itself."""

_KEEPALIVE_OPTIONS: Final = tuple(
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
)
"""A reasoning model is silent for minutes: probes keep address translators from forgetting the connection, and
tell us within two minutes of a peer that is gone."""


class HTTPProxy(Struct, frozen=True):
    """An HTTP proxy: where it is, whether it wants TLS, and what it must be told with each request
    (credentials)."""

    scheme: str
    host: str
    port: int
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HTTPConnection:
    """One socket and the state of the exchange on it; one exchange at a time.

    An exchange is `send`, `receive_head`, then `receive_body` until `complete`. Only then may
    `start_next_exchange` try to make the connection ready for another. After any error or cancellation the only
    thing left to do is `close`.

    Attributes:
      answered: Whether any byte of the current response has arrived.
      complete: Whether the current response was read to its end.
      expires_at: Trio time after which an idle connection is not used again; its owner's business.
      forward_headers: Set when requests go to a proxy that forwards them: what to tell it with each.
    """

    __slots__ = (
        "_failure",
        "_h11",
        "_socket",
        "_stream",
        "_write_failed",
        "answered",
        "complete",
        "expires_at",
        "forward_headers",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        sock: trio.socket.SocketType,
        *,
        forward_headers: tuple[tuple[bytes, bytes], ...] | None = None,
    ) -> None:
        self._stream = stream
        self._socket = sock
        self._h11 = h11.Connection(h11.CLIENT)
        self._write_failed = False
        self._failure: h11.RemoteProtocolError | None = None
        self.answered = False
        self.complete = False
        self.expires_at = 0.0
        self.forward_headers = forward_headers

    async def send(
        self, head: h11.Request, body: bytes | AsyncIterable[bytes], limit_s: float | None
    ) -> None:
        """Send one request. `limit_s` bounds each write.

        A write that the server refuses is not an error yet: servers close early when they have already answered
        (413, 401), and that answer is worth reading.

        Raises:
          httpx.LocalProtocolError: The request is not legal HTTP; nothing was sent.
          httpx.WriteTimeout: The server stopped reading.
        """
        self.answered = self.complete = False
        try:
            to_send = self._h11.send(head) or b""
            if isinstance(body, bytes):
                if len(body) <= _ONE_WRITE_BYTES:
                    to_send += self._h11.send(h11.Data(body)) or b""
                    to_send += self._h11.send(h11.EndOfMessage()) or b""
                    await self._write(to_send, limit_s)
                    return
                await self._write(to_send, limit_s)
                await self._write(self._h11.send(h11.Data(body)) or b"", limit_s)
            else:
                await self._write(to_send, limit_s)
                pieces = aiter(body)
                try:
                    async for piece in pieces:
                        await self._write(self._h11.send(h11.Data(piece)) or b"", limit_s)
                        if self._write_failed:
                            return
                finally:
                    if (close := getattr(pieces, "aclose", None)) is not None:
                        with trio.move_on_after(_CLOSE_BODY_WITHIN_S, shield=True):
                            await close()
            await self._write(self._h11.send(h11.EndOfMessage()) or b"", limit_s)
        except h11.LocalProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc

    async def receive_head(self, limit_s: float | None) -> h11.Response:
        """Wait for the status line and headers, skipping interim responses. `limit_s` bounds each read.

        Raises:
          httpx.ReadTimeout, httpx.ReadError: The server went silent, or the connection broke.
          httpx.RemoteProtocolError: The server hung up without an answer, or what it sent is not HTTP.
        """
        while True:
            event = self._next_event()
            if type(event) is h11.Response:
                return event
            if event is h11.NEED_DATA:
                received = await self._read(limit_s)
                if not received and not self.answered:
                    raise httpx.RemoteProtocolError("the server hung up without answering")
                self._h11.receive_data(received)
            elif type(event) is not h11.InformationalResponse or event.status_code == 101:
                raise httpx.RemoteProtocolError("the server switched to another protocol, unasked")

    async def receive_body(self, limit_s: float | None) -> bytes:
        """Return all that one network read brought, or b"" if the response is `complete`. `limit_s` bounds that
        read.

        Raises:
          httpx.ReadTimeout, httpx.ReadError: The server went silent, or the connection broke.
          httpx.RemoteProtocolError: The server hung up halfway, or what it sent is not HTTP.
        """
        parts: list[bytes] = []
        while not self.complete:
            try:
                event = self._next_event()
            except httpx.RemoteProtocolError:
                if parts:  # deliver what was sent in order; the next call raises again
                    break
                raise
            if type(event) is h11.Data:
                parts.append(event.data)
            elif event is h11.NEED_DATA:
                if parts:
                    break
                self._h11.receive_data(await self._read(limit_s))
            else:
                self.complete = True
        return b"".join(parts)

    def start_next_exchange(self) -> bool:
        """Make ready for another request; False if this connection cannot carry one.

        Bytes beyond the end of the response would be taken for the beginning of the next one, so they
        disqualify too.
        """
        state = self._h11
        if (
            self._write_failed
            or not self.complete
            or state.our_state is not h11.DONE
            or state.their_state is not h11.DONE
            or state.trailing_data != (b"", False)
        ):
            return False
        state.start_next_cycle()
        return True

    def is_quiet(self) -> bool:
        """Whether an idle connection is still usable as far as the socket knows.

        A readable idle socket means that the server hung up, or that it sends what nobody asked for.
        """
        return not self._socket.is_readable()

    def close(self) -> None:
        """Close the socket now. Idempotent; wakes a task that is reading or writing.

        TLS is not said goodbye to: HTTP has its own framing, and the peer may never answer.
        """
        self._socket.close()

    def _next_event(self) -> object:
        if self._failure is not None:
            raise httpx.RemoteProtocolError(str(self._failure)) from self._failure
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as exc:
            self._failure = exc
            raise httpx.RemoteProtocolError(str(exc)) from exc

    async def _read(self, limit_s: float | None) -> bytes:
        try:
            if limit_s is None:
                received = await self._stream.receive_some(_READ_BYTES)
            else:
                with trio.move_on_after(limit_s) as scope:
                    received = await self._stream.receive_some(_READ_BYTES)
                if scope.cancelled_caught:
                    raise httpx.ReadTimeout(f"the server was silent for {limit_s:g} s")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpx.ReadError(_reason(exc)) from exc
        if received:
            self.answered = True
        return bytes(received)

    async def _write(self, to_send: bytes, limit_s: float | None) -> None:
        if not to_send or self._write_failed:
            return
        try:
            if limit_s is None:
                await self._stream.send_all(to_send)
                return
            with trio.move_on_after(limit_s) as scope:
                await self._stream.send_all(to_send)
            if scope.cancelled_caught:
                raise httpx.WriteTimeout(f"the server accepted no bytes for {limit_s:g} s")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._write_failed = True


async def open_connection(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    proxy: HTTPProxy | None,
    proxy_tls: ssl.SSLContext | None,
) -> HTTPConnection:
    """Connect to `host`, through `proxy` if there is one, and speak TLS with `host` if a context is given.

    The caller bounds the time. Cancelled or failed, it leaves no socket behind.

    Raises:
      httpx.ConnectError: The name does not resolve, nobody listens, or the certificate is not trusted.
      httpx.ProxyError: The proxy refuses to connect us.
    """
    stream: trio.abc.Stream
    first = await _open_tcp(
        host if proxy is None else proxy.host, port if proxy is None else proxy.port
    )
    try:
        stream = first
        forward_headers = None
        if proxy is not None:
            if proxy_tls is not None:
                stream = await _start_tls(stream, proxy_tls, proxy.host)
            if tls is None:
                forward_headers = proxy.headers
            else:
                await _open_tunnel(stream, host, port, proxy.headers)
        if tls is not None:
            stream = await _start_tls(stream, tls, host)
    except BaseException:
        first.socket.close()
        raise
    return HTTPConnection(stream, first.socket, forward_headers=forward_headers)


async def _open_tcp(host: str, port: int) -> trio.SocketStream:
    try:
        stream = await trio.open_tcp_stream(host, port)  # sets TCP_NODELAY
    except OSError as exc:
        raise httpx.ConnectError(f"cannot connect to {host} port {port}: {_reason(exc)}") from exc
    with contextlib.suppress(
        OSError
    ):  # a platform without the option still has a working connection
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for level, option, value in _KEEPALIVE_OPTIONS:
            stream.setsockopt(level, option, value)
    return stream


async def _start_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, host: str
) -> trio.abc.Stream:
    tls_stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await tls_stream.do_handshake()
    except (trio.BrokenResourceError, ssl.CertificateError) as exc:
        raise httpx.ConnectError(f"no secure connection to {host}: {_reason(exc)}") from exc
    return tls_stream


async def _open_tunnel(
    stream: trio.abc.Stream, host: str, port: int, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    # `Source:` RFC 9110, section 9.3.6: any 2xx turns the connection into a tunnel right after the header section.
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
    exchange = h11.Connection(h11.CLIENT)
    request = h11.Request(method=b"CONNECT", target=target, headers=[(b"Host", target), *headers])
    try:
        await stream.send_all(exchange.send(request) or b"")
        await stream.send_all(exchange.send(h11.EndOfMessage()) or b"")
        while not isinstance(event := exchange.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                exchange.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
            elif not isinstance(event, h11.InformationalResponse):
                raise httpx.ProxyError("the proxy hung up instead of connecting us")
    except (trio.BrokenResourceError, h11.RemoteProtocolError) as exc:
        raise httpx.ProxyError(f"the proxy did not answer as a proxy: {_reason(exc)}") from exc
    if not 200 <= event.status_code <= 299:
        reason = event.reason.decode("ascii", "replace")
        raise httpx.ProxyError(
            f"the proxy refused to connect us to {host}: {event.status_code} {reason}"
        )
    if exchange.trailing_data[0]:  # the server does not speak first in TLS, so somebody else did
        raise httpx.ProxyError("the proxy sent bytes of its own into the tunnel")


def _reason(exc: BaseException) -> str:
    """What actually went wrong: Trio wraps it, sometimes several times, and groups the attempts of one connect."""
    while True:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return f"certificate not trusted ({exc.verify_message})"
        if isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        elif exc.__cause__ is not None:
            exc = exc.__cause__
        else:
            break
    if isinstance(exc, OSError) and exc.strerror:
        # Trio's own text repeats the address. Negative numbers are those of name resolution, which explain themselves.
        number = exc.errno or 0
        return os.strerror(number) if number > 0 else exc.strerror
    return str(exc) or type(exc).__name__
