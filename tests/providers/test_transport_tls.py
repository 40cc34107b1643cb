"""The pool transport over TLS: whom it trusts, and tunnels through proxies.

`transport_server.pem` is a certificate for localhost and 127.0.0.1 with its key, signed by `transport_ca.pem`, an authority
whose own key was thrown away. Neither is worth anything outside this directory.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from nanobot.providers._pool import PoolStatistics
from nanobot.providers._transport import PoolTransport
from nanobot.providers._trust import usual_authorities

AUTHORITY = Path(__file__).with_name("transport_ca.pem")
CERTIFICATE = Path(__file__).with_name("transport_server.pem")

Script = Callable[[trio.abc.Stream], Awaitable[None]]


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@asynccontextmanager
async def serving(script: Script, *, tls: bool) -> AsyncIterator[int]:
    """Run `script` for every connection; yields the port."""

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            await script(stream)
        except trio.BrokenResourceError:
            pass  # a client that does not trust us hangs up

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    outer: trio.abc.Listener[trio.abc.Stream] = listener
    if tls:
        outer = trio.SSLListener(listener, server_context(), https_compatible=True)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, serve, [outer]))
            yield port
            nursery.cancel_scope.cancel()


async def head_of(stream: trio.abc.Stream) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        more = await stream.receive_some(65536)
        if not more:
            return b""
        received += more
    return received


async def answer_all(stream: trio.abc.Stream) -> None:
    while await head_of(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")


class TunnelProxy:
    """Answers CONNECT by connecting to one fixed port, wherever the client wanted to go."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.heads: list[bytes] = []

    async def __call__(self, stream: trio.abc.Stream) -> None:
        self.heads.append(await head_of(stream))
        target = await trio.open_tcp_stream("127.0.0.1", self.target_port)
        await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with target, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, stream, target, nursery.cancel_scope)
            await self._copy(target, stream, nursery.cancel_scope)

    @staticmethod
    async def _copy(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
        while received := await source.receive_some(65536):
            await sink.send_all(received)
        both.cancel()


async def fetch(pool: PoolTransport, url: str) -> bytes:
    response = await pool.handle_async_request(httpx.Request("GET", url))
    return await response.aread()


@pytest.mark.parametrize("as_context", [False, True], ids=["CA file", "context"])
async def test_a_server_of_a_trusted_authority_is_spoken_to_over_one_connection(
    as_context: bool,
) -> None:
    verify = ssl.create_default_context(cafile=AUTHORITY) if as_context else AUTHORITY
    async with serving(answer_all, tls=True) as port:
        pool = PoolTransport(verify=verify)
        for host in ("localhost", "localhost", "localhost"):
            assert await fetch(pool, f"https://{host}:{port}/") == b"secret"
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)
        await pool.aclose()


async def test_a_server_of_an_unknown_authority_is_not_spoken_to() -> None:
    async with serving(answer_all, tls=True) as port:
        pool = PoolTransport()
        with pytest.raises(httpx.ConnectError, match="certificate not trusted"):
            await fetch(pool, f"https://localhost:{port}/")
        assert pool.statistics().open == 0
        await pool.aclose()


async def test_a_server_that_does_not_speak_tls_is_not_spoken_to() -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await stream.receive_some(1)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some(65536)

    async with serving(refuse, tls=False) as port:
        pool = PoolTransport()
        with pytest.raises(httpx.ConnectError, match="no secure connection to localhost"):
            await fetch(pool, f"https://localhost:{port}/")
        assert pool.statistics().open == 0
        await pool.aclose()


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_a_tunnel_is_opened_once_and_kept(proxy_scheme: str) -> None:
    async with serving(answer_all, tls=True) as port:
        proxy = TunnelProxy(port)
        async with serving(proxy, tls=proxy_scheme == "https") as proxy_port:
            pool = PoolTransport(
                verify=AUTHORITY, proxy=f"{proxy_scheme}://user:pass@localhost:{proxy_port}"
            )
            for _ in range(2):
                assert await fetch(pool, "https://localhost:9/") == b"secret"
            (head,) = proxy.heads
            assert head.startswith(b"CONNECT localhost:9 HTTP/1.1\r\n")
            assert b"proxy-authorization: basic dxnlcjpwyxnz\r\n" in head.lower()
            assert pool.statistics().created == 1
            await pool.aclose()


async def test_a_proxy_cannot_pretend_to_be_the_server() -> None:
    async with serving(answer_all, tls=True) as port:
        async with serving(TunnelProxy(port), tls=False) as proxy_port:
            pool = PoolTransport(verify=AUTHORITY, proxy=f"http://127.0.0.1:{proxy_port}")
            with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
                await fetch(pool, "https://model.example/")
            assert pool.statistics().open == 0
            await pool.aclose()


async def test_a_proxy_that_puts_bytes_of_its_own_into_the_tunnel_is_refused() -> None:
    async def inject(stream: trio.abc.Stream) -> None:
        await head_of(stream)
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        )
        await stream.receive_some(1)

    async with serving(inject, tls=False) as proxy_port:
        pool = PoolTransport(proxy=f"http://127.0.0.1:{proxy_port}")
        with pytest.raises(httpx.ProxyError, match="bytes of its own"):
            await fetch(pool, "https://model.example/")
        await pool.aclose()


def test_the_environment_names_other_authorities_than_the_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert len(usual_authorities().get_ca_certs()) == 1
    monkeypatch.delenv("SSL_CERT_FILE")
    assert usual_authorities().get_ca_certs() == []
    monkeypatch.delenv("SSL_CERT_DIR")
    assert len(usual_authorities().get_ca_certs()) > 50
