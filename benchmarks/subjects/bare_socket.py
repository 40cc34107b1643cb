"""One request over a bare Trio socket, with no HTTP library and no agent: what nobody can be cheaper than."""

from __future__ import annotations

from urllib.parse import urlsplit

import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds


async def main() -> None:
    wanted = load()
    url = urlsplit(url_of(wanted))
    assert url.hostname is not None
    assert url.port is not None
    head = f"POST {url.path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-length: {len(BODY)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = head.encode() + b"\r\n" + BODY
    free: list[trio.SocketStream] = []

    async def ask(_key: str, _text: str) -> None:
        stream = (
            free.pop() if free else await trio.open_tcp_stream(url.hostname or "", url.port or 0)
        )
        await stream.send_all(request)
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += await stream.receive_some(65_536)
        free.append(stream)

    await trio_rounds(ask, wanted)


trio.run(main)
