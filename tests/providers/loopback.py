"""A loopback server that does what a test says, one connection at a time; and what tests ask providers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from nanobot.errors import ProviderError
from nanobot.messages import Delta, ReasoningDelta, TextDelta, UserMessage
from nanobot.providers import ModelRequest, Provider
from nanobot.providers._exchange import NO_LIMITS, Exchange, ExchangeLimits
from nanobot.providers._http1 import ResponseHead
from nanobot.providers._pool import ConnectionPool
from nanobot.providers._request_head import RequestHead

__all__ = [
    "END",
    "HEAD",
    "KEY",
    "REQUEST",
    "MockPool",
    "Peer",
    "answering",
    "ask",
    "ask_until_it_fails",
    "http_chunk",
    "joined",
    "named_event",
    "replying",
    "serving",
]

KEY = "sk-canary-0123456789"
REQUEST = ModelRequest("m", [UserMessage("hi")])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def http_chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def named_event(type: str, **fields: Any) -> bytes:
    """An event whose name is the type in its payload, as Anthropic's and OpenAI's newer formats have it."""
    payload = json.dumps({"type": type, **fields}, ensure_ascii=False).encode()
    return b"event: %b\ndata: %b\n\n" % (type.encode(), payload)


class Peer:
    """One accepted connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.send = stream.send_all

    async def request(self) -> tuple[str, dict[str, str], Any]:
        """Return the target, the headers and the decoded body of the next request."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        while len(body) < int(headers["content-length"]):
            body += await self._receive()
        return first.split(" ")[1], headers, json.loads(body)

    async def stream_events(self, *events: bytes) -> None:
        await self.send(HEAD + b"".join(map(http_chunk, events)))

    async def reply(self, status: str, body: bytes, *headers: str) -> None:
        lines = "".join(f"{header}\r\n" for header in headers)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        await self.send(head.encode() + body)

    async def client_hung_up(self) -> None:
        try:
            assert await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            pass  # a reset is a hang-up with unread bytes

    async def _receive(self) -> bytes:
        received = await self.stream.receive_some(65536)
        if not received:
            raise trio.BrokenResourceError
        return bytes(received)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """Run `script` once per connection; yields the base URL."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await script(Peer(stream))
        except trio.BrokenResourceError:
            pass  # the client hung up, as some tests make it

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, serve, [listener]))
            yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
            nursery.cancel_scope.cancel()


def answering(*events: bytes, end: bytes = END) -> Script:
    """Answer every request on a connection with the same events."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.stream_events(*events)
            await peer.send(end)

    return script


def replying(status: str, body: bytes, *headers: str) -> Script:
    """Answer every request on a connection with the same plain body."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.reply(status, body, *headers)

    return script


async def ask(provider: Provider, request: ModelRequest = REQUEST) -> list[Delta]:
    return [delta async for batch in await provider.open(request) for delta in batch]


async def ask_until_it_fails(provider: Provider) -> tuple[list[Delta], ProviderError]:
    """Return what was delivered before the error, and the error."""
    deltas: list[Delta] = []
    stream = await provider.open(REQUEST)
    with pytest.raises(ProviderError) as caught:
        async for batch in stream:
            assert batch
            deltas += batch
    with pytest.raises(type(caught.value)):
        await anext(stream)  # it does not end normally after all
    await stream.aclose()
    assert caught.value.provider == "acme"
    assert "canary" not in f"{caught.value} {vars(caught.value)}"
    return deltas, caught.value


def joined(deltas: list[Delta]) -> list[Delta]:
    """Merge neighboring pieces of text, so that it does not show where they were cut."""
    merged: list[Delta] = []
    for delta in deltas:
        last = merged[-1] if merged else None
        if isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            merged[-1] = TextDelta(last.text + delta.text)
        elif isinstance(delta, ReasoningDelta) and isinstance(last, ReasoningDelta):
            merged[-1] = ReasoningDelta(last.text + delta.text)
        else:
            merged.append(delta)
    return merged


class MockPool(ConnectionPool):
    """Answers at once instead of a server, as `httpx.MockTransport` does: for addresses that are not ours."""

    def __init__(self, respond: Callable[[httpx.Request], httpx.Response]) -> None:
        super().__init__()
        self._respond = respond

    async def exchange(
        self, head: RequestHead, body: bytes, limits: ExchangeLimits = NO_LIMITS
    ) -> Exchange:
        request = httpx.Request(
            head._method.decode(), str(head._address), headers=head._headers, content=body
        )
        return _Answered(self, head, self._respond(request))


class _Answered(Exchange):
    def __init__(self, pool: ConnectionPool, head: RequestHead, response: httpx.Response) -> None:
        super().__init__(pool, head.origin)
        self.head = ResponseHead(response.status_code, "", "1.1", dict(response.headers))
        self.complete = True
        self._body = response.content

    def read_nowait(self) -> bytes:
        body, self._body = self._body, b""
        return body
